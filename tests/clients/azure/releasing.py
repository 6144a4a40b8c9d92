"""Secure key release: a key goes to an attested environment, wrapped to its own key, and to nobody else."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import requests
from azure.keyvault.keys import KeyClient, KeyExportEncryptionAlgorithm, KeyReleasePolicy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key
from keys import private_jwk
from scenario import (
    World,
    b64u,
    bound,
    fresh,
    from_b64u,
    parts_of,
    raises,
    recipient,
    refused,
    release_policy,
    runtime,
    scenario,
)

UNVERIFIED = "Target environment attestation statement cannot be verified."
UNMET = "does not meet key release policy requirements"
HASHES = {
    "CKM_RSA_AES_KEY_WRAP": hashes.SHA1(),
    "RSA_AES_KEY_WRAP_256": hashes.SHA256(),
    "RSA_AES_KEY_WRAP_384": hashes.SHA384(),
}
EXPORTABLE = {"hardware_protected": True, "exportable": True}


def opened(value: str, key: rsa.RSAPrivateKey | None = None) -> tuple[dict[str, Any], bytes]:
    """What was signed of a release, and the material, unwrapped with the environment's key.

    PyJWT checks the signature with the certificate in the header.
    """
    header = jwt.get_unverified_header(value)
    leaf = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))
    payload = jwt.decode(value, leaf.public_key(), ["RS256"])
    assert header["x5t#S256"] == b64u(leaf.fingerprint(hashes.SHA256()))
    assert header["kid"] == leaf.fingerprint(hashes.SHA1()).hex().upper()
    sealed = json.loads(from_b64u(payload["response"]["key"]["key"]["key_hsm"]))
    assert sealed["header"]["enc"] == payload["request"]["enc"]
    key = key or recipient()
    ciphertext, size = from_b64u(sealed["ciphertext"]), key.key_size // 8
    digest = HASHES[payload["request"]["enc"]]
    inner = key.decrypt(ciphertext[:size], padding.OAEP(padding.MGF1(digest), digest, None))
    return payload, keywrap.aes_key_unwrap_with_padding(inner, ciphertext[size:])


def forged(
    world: World, issuer: str, *, kid: str = "fake-key", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token of an untrusted authority."""
    now = int(time.time())
    said = {"iss": issuer, "iat": now, "nbf": now, "exp": now + 600, "sdk-test": True}
    said["x-ms-runtime"] = json.loads(runtime())
    return jwt.encode(
        {**said, **claims}, Path(world.signing_key).read_bytes(), "RS256", {"kid": kid, **(header or {})}
    )


def made_for(world: World, keys: KeyClient, **claims: Any) -> str:
    """A key that is released to SNP guests."""
    name = fresh("r")
    wanted = claims or {"x_ms_attestation_type": "sevsnpvm"}
    keys.create_rsa_key(
        name, size=3072, **EXPORTABLE, release_policy=release_policy(world.attestation, **wanted)
    )
    return name


@scenario("K.release_key(name, a token of the attestation service), opened with the environment's key", 35)
def released(world: World) -> None:
    keys = world.keys()
    name, token = made_for(world, keys), world.snp_token(runtime())
    payload, material = opened(keys.release_key(name, token).value)
    assert payload["request"]["enc"] == "CKM_RSA_AES_KEY_WRAP"
    shown = payload["response"]["key"]["key"]
    assert shown["kty"] == "RSA-HSM"
    key = load_der_private_key(material, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.public_key().public_numbers().n == int.from_bytes(from_b64u(shown["n"]), "big")
    assert key.public_key().public_numbers().n == int.from_bytes(keys.get_key(name).key.n, "big")
    assert world.keys("workload").release_key(name, token).value


@scenario("K.release_key(algorithm=...): three algorithms, of RSA, EC and oct keys")
def released_by_every_algorithm(world: World) -> None:
    keys, token = world.keys(), world.snp_token(runtime())
    policy = release_policy(world.attestation, x_ms_attestation_type="sevsnpvm")
    rsa_name, curve_name, oct_name = made_for(world, keys), fresh("r"), fresh("r")
    point = keys.create_ec_key(curve_name, curve="P-384", **EXPORTABLE, release_policy=policy).key
    keys.create_oct_key(oct_name, size=256, **EXPORTABLE, release_policy=policy)
    for algorithm in KeyExportEncryptionAlgorithm:
        payload, material = opened(keys.release_key(rsa_name, token, algorithm=algorithm).value)
        assert payload["request"]["enc"] == algorithm.value
        assert isinstance(load_der_private_key(material, None), rsa.RSAPrivateKey)
        _, material = opened(keys.release_key(curve_name, token, algorithm=algorithm).value)
        key = load_der_private_key(material, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.public_key().public_numbers().x == int.from_bytes(point.x, "big")
        payload, material = opened(keys.release_key(oct_name, token, algorithm=algorithm).value)
        assert len(material) == 32
        assert "n" not in payload["response"]["key"]["key"]
        assert "k" not in payload["response"]["key"]["key"]
    with refused(400, "BadParameter"):
        keys.release_key(rsa_name, token, algorithm="ROT13")


@scenario("K.release_key of a version; of none; POST /keys/k/release as the Go sidecar", 37)
def released_by_every_path(world: World) -> None:
    keys, token = world.keys(), world.snp_token(runtime())
    name = made_for(world, keys)
    first = keys.get_key(name)
    second = keys.rotate_key(name)
    for version, key in (
        (first.properties.version, first),
        (None, second),
        (second.properties.version, second),
    ):
        _, material = opened(keys.release_key(name, token, version=version).value)
        numbers = load_der_private_key(material, None).public_key().public_numbers()  # type: ignore[union-attr]
        assert numbers.n == int.from_bytes(key.key.n, "big")  # type: ignore[union-attr]
    bearer = world.bearer("workload", "https://vault.azure.net/.default")
    for path in (
        f"keys/{name}/release",
        f"keys/{name}//release",
        f"keys/{name}/{first.properties.version}/release",
    ):
        url = f"{world.vault}/{path}?api-version=7.3"
        answer = requests.post(url, json={"target": token}, headers=bearer, verify=world.ca, timeout=300)
        assert answer.status_code == 200, answer.text
        payload, _ = opened(answer.json()["value"])
        assert payload["request"]["api-version"] == "7.3"


@scenario("K.release_key on a token whose measurement is another, whose signature is another", 38)
def released_to_nobody_else(world: World) -> None:
    keys = world.keys()
    measured = world.forged("snp")["report"][0x90:0xC0].hex()
    name = made_for(world, keys, x_ms_sevsnpvm_launchmeasurement=measured)
    keys.release_key(name, world.snp_token(runtime()))
    other = world.snp_token(runtime(), measurement=bytes(48))
    with refused(403, "Forbidden", UNMET) as _:
        keys.release_key(name, other)
    try:
        keys.release_key(name, other)
    except Exception as error:
        assert error.error.innererror["code"] == "AccessDenied", vars(error.error)
    head, body, signature = world.snp_token(runtime()).split(".")
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    with refused(403, "Forbidden", UNVERIFIED):
        keys.release_key(name, f"{head}.{body}.{changed}")
    assert other not in Path(world.log).read_text(errors="replace")


@scenario(
    "K.release_key on tokens of authorities whose documents are wrong, expired, unsigned, of strangers", 39
)
def targets_that_do_not_hold(world: World) -> None:
    keys, fakes = world.keys(), world.fakes
    good, name = fakes["good"], fresh("r")
    keys.create_rsa_key(name, **EXPORTABLE, release_policy=release_policy(good, sdk_test="true"))
    assert opened(keys.release_key(name, forged(world, good)).value)
    assert opened(keys.release_key(name, forged(world, good + "/")).value)
    now = int(time.time())
    unsigned = forged(world, good).split(".")
    tampered = b64u(json.dumps({**parts_of(forged(world, good))[1], "more": 1}).encode())
    wrong = {
        "changed": f"{unsigned[0]}.{tampered}.{unsigned[2]}",
        "no signature": f"{unsigned[0]}.{unsigned[1]}.",
        "alg none": f"{b64u(json.dumps({'alg': 'none', 'kid': 'fake-key'}).encode())}.{unsigned[1]}.",
        "expired": forged(world, good, exp=now - 600),
        "to come": forged(world, good, nbf=now + 600),
        "another key": forged(world, good, kid="another"),
        "a stranger": forged(world, "https://stranger.example"),
        "no issuer": forged(world, ""),
        "its own jku": forged(world, "https://stranger.example", header={"jku": f"{good}/keys"}),
        **{kind: forged(world, url) for kind, url in fakes.items() if kind != "good"},
    }
    for what, token in wrong.items():
        try:
            keys.release_key(name, token)
        except Exception as error:
            said = error.error
            assert (error.status_code, said.code) == (403, "Forbidden"), f"{what}: {error}"
            assert said.message == UNVERIFIED, f"{what}: {said.message}"
        else:
            raise AssertionError(f"{what}: want 403, got a release")
    for text in ("", "a", "a.b.c", "é", "x" * 200_000):
        with raises(Exception):
            keys.release_key(name, text)


@scenario("K.release_key where the environment has no key that a key may be wrapped to")
def environments_without_a_key(world: World) -> None:
    keys = world.keys()
    name = made_for(world, keys)
    signing = runtime().replace(b'"encrypt"', b'"sign"')
    for data in (b"{}", b'{"keys": []}', signing, b'{"keys": [{"kty": "oct", "kid": "a", "use": "enc"}]}'):
        with refused(403, "Forbidden"):
            keys.release_key(name, world.snp_token(data))
    two = json.loads(runtime())
    first = {**two["keys"][0], "kid": "first", "key_ops": ["sign"]}
    both = json.dumps({"keys": [first, two["keys"][0]]}).encode()
    payload, _ = opened(keys.release_key(name, world.snp_token(both)).value)
    sealed = json.loads(from_b64u(payload["response"]["key"]["key"]["key_hsm"]))
    assert sealed["header"]["kid"] == "ephemeral"


@scenario("K.release_key(nonce=...): it comes back, signed")
def released_with_a_nonce(world: World) -> None:
    keys, token = world.keys(), world.snp_token(runtime())
    name = made_for(world, keys)
    payload, _ = opened(keys.release_key(name, token, nonce="fresh").value)
    assert payload["request"]["nonce"] == "fresh"
    payload, _ = opened(keys.release_key(name, token).value)
    assert "nonce" not in payload["request"]
    assert payload["request"]["kid"].endswith(f"/keys/{name}")


@scenario("K.update_key_properties(release_policy=...): the next release follows it")
def changed_policy(world: World) -> None:
    keys, token = world.keys(), world.snp_token(runtime())
    name = made_for(world, keys)
    keys.release_key(name, token)
    keys.update_key_properties(
        name, release_policy=release_policy(world.attestation, x_ms_attestation_type="sgx")
    )
    with refused(403, "Forbidden", UNMET):
        keys.release_key(name, token)
    back = release_policy(
        world.attestation, x_ms_attestation_type="sevsnpvm", x_ms_sevsnpvm_is_debuggable="false"
    )
    keys.update_key_properties(name, release_policy=back)
    keys.release_key(name, token)


@scenario("K.import_key(hardware_protected, exportable, release_policy), then K.release_key", 44)
def imported_and_released(world: World) -> None:
    keys, name, key = world.keys(), fresh("r"), rsa.generate_private_key(65537, 2048)
    policy = release_policy(world.attestation, x_ms_attestation_type="sevsnpvm")
    made = keys.import_key(name, private_jwk(key), **EXPORTABLE, release_policy=policy)
    assert made.properties.exportable is True
    _, material = opened(keys.release_key(name, world.snp_token(runtime())).value)
    found = load_der_private_key(material, None)
    assert isinstance(found, rsa.RSAPrivateKey)
    assert found.private_numbers().d == key.private_numbers().d


@scenario("K.release_key of a key that is disabled, not exportable, or to one who may not")
def keys_that_stay(world: World) -> None:
    keys, token = world.keys(), world.snp_token(runtime())
    name, plain = made_for(world, keys), fresh("r")
    keys.create_rsa_key(plain)
    with refused(403, "Forbidden"):
        keys.release_key(plain, token)
    with refused(403, "Forbidden"):
        world.keys("reader").release_key(name, token)
    keys.update_key_properties(name, enabled=False)
    with refused(403, "Forbidden"):
        keys.release_key(name, token)
    keys.update_key_properties(name, enabled=True)
    keys.release_key(name, token)


@scenario("K.release_key to an SGX enclave, to a trust domain and to an Azure guest, by nested claims")
def released_to_every_kind(world: World) -> None:
    keys, data = world.keys(), runtime()
    enclave = world.attester().attest_sgx_enclave(world.quote(data), runtime_json=data)[1]
    body = {"quote": b64u(world.forged("tdx", report_data=bound(data))["quote"])}
    body["runtimeData"] = {"data": b64u(data), "dataType": "JSON"}  # type: ignore[assignment]
    domain = world.post("/attest/TdxVm?api-version=2025-06-01", body).json()["token"]
    document = {
        "version": "1.0.0",
        "anyOf": [
            {
                "authority": world.attestation + "/",
                "anyOf": [
                    {
                        "allOf": [
                            {"claim": "x-ms-attestation-type", "equals": "sgx"},
                            {"claim": "x-ms-sgx-is-debuggable", "equals": False},
                        ]
                    },
                    {"claim": "tdx_td_attributes_debug", "equals": "false"},
                    {"claim": "x-ms-isolation-tee.x-ms-attestation-type", "equals": "sevsnpvm"},
                ],
            }
        ],
    }
    name = fresh("r")
    keys.create_rsa_key(name, **EXPORTABLE, release_policy=KeyReleasePolicy(json.dumps(document).encode()))
    for token in (str(enclave), domain):
        assert opened(keys.release_key(name, token).value)
    envelope = from_b64u(
        world.post(
            "/attest/AzureGuest?api-version=2020-10-01", {"AttestationInfo": b64u(world.forged("vm")["info"])}
        ).json()["token"]
    )
    guest = world.forged("unseal", envelope=envelope)["token"].decode()
    payload = jwt.decode(keys.release_key(name, guest).value, options={"verify_signature": False})
    sealed = json.loads(from_b64u(payload["response"]["key"]["key"]["key_hsm"]))
    assert sealed["header"]["kid"] == "TpmEphemeralEncryptionKey"
    with refused(403, "Forbidden", UNMET):
        keys.release_key(name, world.snp_token(data))


@scenario(
    "PUT and POST as the Go tool and the sidecar: hsm in small letters, other base64, an older policy's form"
)
def keys_as_other_tools_write_them(world: World) -> None:
    key, name = rsa.generate_private_key(65537, 2048), fresh("r")
    jwk = {
        field: b64u(value) if isinstance(value, bytes) else value
        for field, value in vars(private_jwk(key)).items()
        if value is not None
    }
    older = {
        "version": "1.0",
        "anyOf": [
            {
                "authority": world.attestation,
                "allOf": [
                    {"claim": "x-ms-sevsnpvm-is-debuggable", "condition": "equals", "value": "false"},
                    {"claim": "x-ms-sevsnpvm-vmpl", "equals": "0"},
                ],
            }
        ],
    }
    body = {
        "hsm": True,
        "key": {**jwk, "kty": "RSA-HSM"},
        "attributes": {"exportable": True},
        "release_policy": {
            "contentType": "application/json; version=1.0",
            "data": base64.b64encode(json.dumps(older).encode()).decode(),
        },
    }
    headers = world.bearer("admin", "https://vault.azure.net/.default")
    url = f"{world.vault}/keys/{name}"
    answer = requests.put(
        f"{url}?api-version=7.3-preview", json=body, headers=headers, verify=world.ca, timeout=300
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["key"]["kty"] == "RSA-HSM"
    target = {"target": world.snp_token(runtime()), "enc": "RSA_AES_KEY_WRAP_256", "nonce": "n"}
    for path in (f"{url}/release", f"{url}//release"):
        answer = requests.post(
            f"{path}?api-version=7.3-preview", json=target, headers=headers, verify=world.ca, timeout=300
        )
        assert answer.status_code == 200, answer.text
        _, material = opened(answer.json()["value"])
        found = load_der_private_key(material, None)
        assert isinstance(found, rsa.RSAPrivateKey)
        assert found.private_numbers() == key.private_numbers()


@scenario(
    "K.release_key refused: the claim that failed, what was wanted and what was there, in error.details"
)
def refusals_that_say_why(world: World) -> None:
    keys = world.keys()
    name = made_for(world, keys, x_ms_attestation_type="sevsnpvm", x_ms_sevsnpvm_vmpl="3")
    answer = requests.post(
        f"{world.vault}/keys/{name}/release?api-version=7.4",
        json={"target": world.snp_token(runtime())},
        headers=world.bearer("workload", "https://vault.azure.net/.default"),
        verify=world.ca,
        timeout=300,
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["innererror"]["code"]) == (
        403,
        "Forbidden",
        "AccessDenied",
    )
    assert UNMET in error["message"]
    said = json.dumps(error["details"])
    assert "x-ms-sevsnpvm-vmpl" in said
    assert "3" in said
