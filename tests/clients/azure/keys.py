"""Keys: made, brought, used, turned, deleted and brought back, by Azure's key client."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime, timedelta

import requests
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.keyvault.keys import (
    ApiVersion,
    JsonWebKey,
    KeyClient,
    KeyCurveName,
    KeyReleasePolicy,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from credentials import VAULT
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from scenario import World, b64u, fresh, refused, release_policy, scenario


def gone(keys: KeyClient, name: str) -> None:
    """Delete and purge a key."""
    keys.begin_delete_key(name).result()
    keys.purge_deleted_key(name)


@scenario(
    "K.create_rsa_key(hardware_protected, exportable, release_policy); K.get_key; K.update_key_properties", 34
)
def exportable_key(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    policy = release_policy(world.attestation, x_ms_attestation_type="sevsnpvm")
    made = keys.create_rsa_key(
        name,
        size=3072,
        hardware_protected=True,
        exportable=True,
        key_operations=["wrapKey", "unwrapKey"],
        release_policy=policy,
        tags={"a": "b"},
    )
    assert made.properties.exportable is True
    assert made.properties.release_policy.encoded_policy == policy.encoded_policy
    assert made.key_type == "RSA-HSM"
    assert len(made.properties.version) == 32
    assert int(made.properties.version, 16) >= 0
    assert len(made.key.n) == 384
    assert int.from_bytes(made.key.e, "big") == 65537
    assert made.key.d is None
    assert set(made.key_operations) == {"wrapKey", "unwrapKey"}
    found = keys.get_key(name)
    assert (found.id, found.properties.tags) == (made.id, {"a": "b"})
    changed = keys.update_key_properties(name, enabled=False, tags={"c": "d"})
    assert (changed.properties.enabled, changed.properties.tags) == (False, {"c": "d"})


@scenario("K.create_ec_key, create_rsa_key, create_oct_key: every kind, curve and size")
def every_kind(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    for curve in (KeyCurveName.p_256, KeyCurveName.p_384, KeyCurveName.p_521, KeyCurveName.p_256_k):
        made = keys.create_ec_key(f"{name}-{curve.value}", curve=curve)
        assert (made.key_type, made.key.crv) == ("EC", curve)
    assert keys.create_rsa_key(f"{name}-rsa", size=2048).key_type == "RSA"
    other = keys.create_rsa_key(f"{name}-17", hardware_protected=True, public_exponent=17)
    assert (other.key_type, other.key.e) == ("RSA-HSM", bytes([17]))
    assert keys.create_oct_key(f"{name}-oct", size=256, hardware_protected=True).key_type == "oct-HSM"
    for call in (
        lambda: keys.create_rsa_key(name, size=512),
        lambda: keys.create_key(name, "RSB"),
        lambda: keys.create_ec_key(name, curve="P-1"),
        lambda: keys.create_rsa_key("under_score"),
    ):
        with refused(400, "BadParameter"):
            call()


@scenario(
    "K.create_rsa_key: exportable without a policy, a policy without exportable, software, a policy as text",
    41,
)
def release_rules(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    policy = release_policy(world.attestation, a="b")
    with refused(400, "BadParameter", "AKV.SKR.1004"):
        keys.create_rsa_key(name, hardware_protected=True, exportable=True)
    with refused(400, "BadParameter", "AKV.SKR.1005"):
        keys.create_rsa_key(name, hardware_protected=True, release_policy=policy)
    with refused(400, "BadParameter", "AKV.SKR.1006"):
        keys.create_rsa_key(name, exportable=True, release_policy=policy)
    text = KeyReleasePolicy(policy.encoded_policy.decode())  # type: ignore[arg-type]
    with refused(400, "BadParameter", "AKV.SKR.1004"):
        keys.create_rsa_key(name, hardware_protected=True, exportable=True, release_policy=text)
    for document in (b"{}", b"[]", b"no", b'{"anyOf":[]}', policy.encoded_policy.replace(b"equals", b"less")):
        with refused(400, "BadParameter"):
            keys.create_rsa_key(
                name, hardware_protected=True, exportable=True, release_policy=KeyReleasePolicy(document)
            )
    old = world.keys(api_version=ApiVersion.V7_2)
    with refused(400, "BadParameter", "AKV.SKR.1001"):
        old.create_rsa_key(name, hardware_protected=True, exportable=True, release_policy=policy)
    with refused(404, "KeyNotFound", kind=ResourceNotFoundError):
        keys.get_key(name)


@scenario(
    "K.update_key_properties(release_policy=...) of an immutable policy, of a version, of exportable", 42
)
def immutable_policy(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    policy, other = release_policy(world.attestation, True, a="b"), release_policy(world.attestation, a="c")
    given = {"hardware_protected": True, "exportable": True}
    keys.create_rsa_key(name, **given, release_policy=policy)
    with refused(400, "BadParameter", "AKV.SKR.1020"):
        keys.update_key_properties(name, release_policy=other)
    assert keys.get_key(name).properties.release_policy.immutable is True
    mutable = fresh("k")
    made = keys.create_rsa_key(mutable, **given, release_policy=other)
    with refused(400, "BadParameter", "AKV.SKR.1016"):
        keys.update_key_properties(mutable, version=made.properties.version, release_policy=policy)
    changed = keys.update_key_properties(mutable, release_policy=release_policy(world.attestation, a="d"))
    assert b'"d"' in changed.properties.release_policy.encoded_policy
    again = keys.create_rsa_key(mutable, hardware_protected=True)
    assert again.properties.release_policy.encoded_policy == changed.properties.release_policy.encoded_policy


@scenario("K.update_key_rotation_policy, K.rotate_key: a new version, policy and exportable kept")
def rotated_key(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    policy = release_policy(world.attestation, a="b")
    first = keys.create_rsa_key(name, hardware_protected=True, exportable=True, release_policy=policy)
    action = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P90D")
    kept = keys.update_key_rotation_policy(
        name, KeyRotationPolicy(), lifetime_actions=[action], expires_in="P2Y"
    )
    assert kept.expires_in == "P2Y"
    assert keys.get_key_rotation_policy(name).lifetime_actions[0].time_after_create == "P90D"
    second = keys.rotate_key(name)
    assert second.properties.version != first.properties.version
    assert second.properties.exportable is True
    assert second.properties.release_policy.encoded_policy == policy.encoded_policy
    assert second.key.n != first.key.n
    assert keys.get_key(name).id == second.id
    assert keys.get_key(name, first.properties.version).key.n == first.key.n
    assert {each.version for each in keys.list_properties_of_key_versions(name)} == {
        first.properties.version,
        second.properties.version,
    }


@scenario(
    "K.update_key_rotation_policy on a key that is due: the vault rotates it by itself, and tells of others"
)
def rotated_by_itself(world: World) -> None:
    keys, name, near = world.keys(), fresh("k"), fresh("k")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    policy = release_policy(world.attestation, True, a="b")
    first = keys.create_rsa_key(
        name,
        hardware_protected=True,
        exportable=True,
        release_policy=policy,
        expires_on=soon,
        tags={"a": "b"},
    )
    keys.create_ec_key(near, expires_on=soon)
    action = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_before_expiry="P7D")
    keys.update_key_rotation_policy(name, KeyRotationPolicy(), lifetime_actions=[action], expires_in="P30D")

    def told() -> list[tuple[str, str, str]]:
        url, entries = f"{world.vault}/audit?api-version=7.4", []
        while page := requests.get(
            f"{url}&after={len(entries)}",
            headers=world.bearer("auditor", VAULT),
            verify=world.ca,
            timeout=300,
        ).json()["value"]:
            entries += page
        return [
            (each["operation"], each["key"], each["subject"])
            for each in entries
            if each["key"] in (name, near) and each["operation"] in ("auto-rotate", "near-expiry")
        ]

    until = time.monotonic() + 300
    while len(told()) < 2 and time.monotonic() < until:
        time.sleep(1)
    assert sorted(told()) == sorted([("auto-rotate", name, ""), ("near-expiry", near, "")])
    second = keys.get_key(name)
    assert second.properties.version != first.properties.version
    assert second.key.n != first.key.n
    assert second.properties.exportable is True
    assert second.properties.release_policy.immutable is True
    assert second.properties.release_policy.encoded_policy == policy.encoded_policy
    assert second.properties.tags == {"a": "b"}
    life = second.properties.expires_on - second.properties.created_on
    assert life == timedelta(days=30)
    assert len(list(keys.list_properties_of_key_versions(name))) == 2


@scenario("K.begin_delete_key, get_deleted_key, begin_recover_deleted_key, purge_deleted_key", 45)
def lifecycle(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    made = keys.create_rsa_key(name)
    deleted = keys.begin_delete_key(name).result()
    assert deleted.recovery_id.endswith(f"/deletedkeys/{name}")
    assert keys.get_deleted_key(name).scheduled_purge_date > datetime.now(UTC)
    assert name in [each.name for each in keys.list_deleted_keys()]
    with refused(404, "KeyNotFound", kind=ResourceNotFoundError):
        keys.get_key(name)
    with refused(409, "Conflict", kind=ResourceExistsError):
        keys.create_rsa_key(name)
    assert keys.begin_recover_deleted_key(name).result().id == made.id
    assert keys.get_key(name).key.n == made.key.n
    gone(keys, name)
    with refused(404, "KeyNotFound", kind=ResourceNotFoundError):
        keys.get_key(name)
    with refused(404, "KeyNotFound", kind=ResourceNotFoundError):
        keys.get_deleted_key(name)
    assert keys.create_rsa_key(name).key.n != made.key.n


@scenario("K.backup_key, K.restore_key_backup")
def backup(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    made = keys.create_rsa_key(name)
    blob = keys.backup_key(name)
    assert made.key.n not in blob
    with refused(409, "Conflict", kind=ResourceExistsError):
        keys.restore_key_backup(blob)
    gone(keys, name)
    assert keys.restore_key_backup(blob).key.n == made.key.n
    for wrong in (b"", b"no", blob[:-1], blob[:-20] + bytes(20)):
        with refused(400, "BadParameter"):
            keys.restore_key_backup(wrong)


@scenario("CryptographyClient: wrap locally, unwrap remotely; encrypt and decrypt; sign and verify", 48)
def cryptography(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    client = keys.get_cryptography_client(keys.create_rsa_key(name).name)
    secret = secrets.token_bytes(32)
    for algorithm in (KeyWrapAlgorithm.rsa_oaep, KeyWrapAlgorithm.rsa_oaep_256, KeyWrapAlgorithm.rsa1_5):
        wrapped = client.wrap_key(algorithm, secret)
        assert client.unwrap_key(algorithm, wrapped.encrypted_key).key == secret
    sealed = client.encrypt(EncryptionAlgorithm.rsa_oaep_256, secret)
    assert client.decrypt(EncryptionAlgorithm.rsa_oaep_256, sealed.ciphertext).plaintext == secret
    digest = hashlib.sha256(b"said").digest()
    for algorithm in (SignatureAlgorithm.rs256, SignatureAlgorithm.ps256):
        signature = client.sign(algorithm, digest).signature
        assert client.verify(algorithm, digest, signature).is_valid
        assert not client.verify(algorithm, hashlib.sha256(b"else").digest(), signature).is_valid
    numbers = keys.get_key(name).key
    public = rsa.RSAPublicNumbers(
        int.from_bytes(numbers.e, "big"), int.from_bytes(numbers.n, "big")
    ).public_key()
    public.verify(
        client.sign(SignatureAlgorithm.rs256, digest).signature, b"said", padding.PKCS1v15(), hashes.SHA256()
    )
    curve = keys.get_cryptography_client(keys.create_ec_key(f"{name}-ec").name)
    assert curve.verify("ES256", digest, curve.sign("ES256", digest).signature).is_valid
    keys.create_rsa_key(f"{name}-only", key_operations=["sign"])
    signer = keys.get_cryptography_client(f"{name}-only")
    with refused(403, "Forbidden"):
        signer.unwrap_key(KeyWrapAlgorithm.rsa_oaep, wrapped.encrypted_key)
    with refused(400, "BadParameter"):
        client.unwrap_key(KeyWrapAlgorithm.rsa_oaep, bytes(256))


@scenario("K.list_properties_of_keys(max_page_size=2).by_page(); versions likewise")
def paging(world: World) -> None:
    keys, names = world.keys(), {fresh("page") for _ in range(7)}
    for name in names:
        keys.create_ec_key(name)
    pages = [list(page) for page in keys.list_properties_of_keys(max_page_size=2).by_page()]
    assert max(map(len, pages)) == 2
    found = [each.name for page in pages for each in page]
    assert len(found) == len(set(found))
    assert names <= set(found)
    name = names.pop()
    for _ in range(4):
        keys.create_ec_key(name)
    pages = [list(page) for page in keys.list_properties_of_key_versions(name, max_page_size=2).by_page()]
    assert [len(page) for page in pages] == [2, 2, 1]


@scenario("K.get_random_bytes(16), get_key_rotation_policy, update_key_rotation_policy", 51)
def shapes(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    assert len(keys.get_random_bytes(16)) == 16
    assert keys.get_random_bytes(16) != keys.get_random_bytes(16)
    with refused(400, "BadParameter"):
        keys.get_random_bytes(4096)
    keys.create_rsa_key(name)
    usual = keys.get_key_rotation_policy(name)
    assert isinstance(usual.lifetime_actions, list)
    notify = KeyRotationLifetimeAction(KeyRotationPolicyAction.notify, time_before_expiry="P30D")
    kept = keys.update_key_rotation_policy(name, usual, expires_in="P1Y", lifetime_actions=[notify])
    assert (kept.expires_in, kept.created_on is not None, kept.updated_on is not None) == ("P1Y", True, True)
    with refused(400, "BadParameter"):
        keys.update_key_rotation_policy(name, usual, expires_in="soon")


@scenario("K.import_key, K.get_key_attestation, attributes with times")
def imported(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    key = rsa.generate_private_key(65537, 2048)
    jwk = private_jwk(key)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    made = keys.import_key(name, jwk, expires_on=later, not_before=later - timedelta(days=1), tags={"a": "b"})
    assert made.key.n == jwk.n
    assert made.key.d is None
    assert (made.properties.expires_on, made.properties.not_before) == (later, later - timedelta(days=1))
    again = keys.import_key(name, jwk, hardware_protected=True)
    assert again.key_type == "RSA-HSM"
    said = keys.get_key_attestation(name).properties.attestation
    assert said.version
    assert b"BEGIN CERTIFICATE" in said.certificate_pem_file
    for wrong in (JsonWebKey(kty="RSA", n=b"1", e=b"1"), JsonWebKey(kty="oct", k=bytes(100))):
        with refused(400, "BadParameter"):
            keys.import_key(fresh("k"), wrong)


def private_jwk(key: rsa.RSAPrivateKey) -> JsonWebKey:
    """A private key as the client takes it."""
    numbers = key.private_numbers()
    public = numbers.public_numbers
    parts = {
        "n": public.n, "e": public.e, "d": numbers.d, "p": numbers.p, "q": numbers.q, "dp": numbers.dmp1,
        "dq": numbers.dmq1, "qi": numbers.iqmp,
    }  # fmt: skip
    made = {name: value.to_bytes((value.bit_length() + 7) // 8, "big") for name, value in parts.items()}
    return JsonWebKey(kty="RSA", **made)


@scenario("K on keys that are not there: each call says KeyNotFound, and versions there are none")
def missing(world: World) -> None:
    keys, name = world.keys(), fresh("none")
    for call in (
        lambda: keys.get_key(name),
        lambda: keys.get_key(name, "0" * 32),
        lambda: keys.update_key_properties(name, enabled=True),
        lambda: keys.rotate_key(name),
        lambda: keys.backup_key(name),
        lambda: keys.begin_delete_key(name),
        lambda: keys.get_deleted_key(name),
        lambda: keys.purge_deleted_key(name),
        lambda: keys.get_key_rotation_policy(name),
        lambda: keys.release_key(name, "a.b.c"),
    ):
        with refused(404, "KeyNotFound", name, ResourceNotFoundError):
            call()
    assert list(keys.list_properties_of_key_versions(name)) == []


@scenario(
    "K of a key called restore; GET /keys/, GET /deletedkeys/ and POST /keys//restore as .NET writes them"
)
def names_and_slashes(world: World) -> None:
    keys, name, key = world.keys(), "restore", rsa.generate_private_key(65537, 2048)
    made = keys.import_key(name, private_jwk(key))
    assert keys.get_key(name.upper()).id == made.id
    blob = keys.backup_key(name)
    keys.begin_delete_key(name).result()

    def ask(method: str, path: str, **more: object) -> requests.Response:
        headers = world.bearer("admin", VAULT)
        url = f"{world.vault}{path}?api-version=7.6"
        return requests.request(method, url, headers=headers, verify=world.ca, timeout=300, **more)  # type: ignore[arg-type]

    body = {"value": b64u(blob)}
    answer = ask("POST", "/keys//restore", json=body)
    assert answer.status_code == 409
    assert answer.json()["error"]["innererror"]["code"] == "ObjectIsDeletedButRecoverable"
    assert "recoveryId" in ask("GET", "/deletedkeys/").json()["value"][0]
    keys.purge_deleted_key(name)
    assert ask("POST", "/keys//restore", json=body).json()["key"]["kid"] == made.id
    assert ask("GET", "/keys/").json()["value"]
    gone(keys, name)
    wrong = requests.get(
        f"{world.vault}/keys", headers=world.bearer("admin", VAULT), verify=world.ca, timeout=300
    )
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "BadParameter")
