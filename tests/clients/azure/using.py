"""Keys in use: out of their time, as objects of pyca/cryptography, under rotation policies, when deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.keyvault.keys import (
    KeyClient,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from scenario import World, b64u, fresh, refused, release_policy, runtime, scenario

PAST, COMING = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)


def used(keys: KeyClient, key: Any, verb: str, algorithm: str, value: bytes) -> Any:
    """The answer to a use that ``CryptographyClient`` would not ask for."""
    path = f"keys/{key.name}/{key.properties.version}/{verb}"
    answer = keys.send_request(HttpRequest("POST", path, json={"alg": algorithm, "value": b64u(value)}))
    return answer.status_code, answer.json()


@scenario(
    "K on keys that are expired, or not yet valid: what was protected is opened, nothing new is protected"
)
def keys_out_of_their_time(world: World) -> None:
    keys, token = world.keys(), world.snp_token(runtime())
    for times, inner in (({"expires_on": PAST}, "KeyExpired"), ({"not_before": COMING}, "KeyNotYetValid")):
        key = keys.create_rsa_key(fresh("k"), **times)
        numbers = rsa.RSAPublicNumbers(int.from_bytes(key.key.e, "big"), int.from_bytes(key.key.n, "big"))
        sealed = numbers.public_key().encrypt(b"said", OAEP)
        for verb in ("decrypt", "unwrapkey"):
            status, answer = used(keys, key, verb, "RSA-OAEP", sealed)
            assert (status, answer["value"]) == (200, b64u(b"said")), answer
        for verb, algorithm in (("encrypt", "RSA-OAEP"), ("wrapkey", "RSA-OAEP"), ("sign", "RS256")):
            status, answer = used(keys, key, verb, algorithm, bytes(32))
            error = answer["error"]
            assert (status, error["code"], error["innererror"]["code"]) == (403, "Forbidden", inner)
        policy = release_policy(world.attestation, x_ms_attestation_type="sevsnpvm")
        released = keys.create_rsa_key(
            fresh("r"), hardware_protected=True, exportable=True, release_policy=policy, **times
        )
        assert keys.release_key(released.name, token).value


@scenario("K.release_key of a key that is deleted, recovered, rotated, purged; of a version that is disabled")
def releases_in_a_keys_life(world: World) -> None:
    keys, token = world.keys(), world.snp_token(runtime())
    policy = release_policy(world.attestation, x_ms_attestation_type="sevsnpvm")
    first = keys.create_rsa_key(fresh("r"), hardware_protected=True, exportable=True, release_policy=policy)
    second = keys.rotate_key(first.name)
    assert second.properties.release_policy.encoded_policy == policy.encoded_policy
    for version in (first.properties.version, second.properties.version, None):
        assert keys.release_key(first.name, token, version=version).value
    keys.update_key_properties(first.name, version=first.properties.version, enabled=False)
    with refused(403, "Forbidden", "disabled"):
        keys.release_key(first.name, token, version=first.properties.version)
    assert keys.release_key(first.name, token).value
    keys.begin_delete_key(first.name).result()
    with refused(404, "KeyNotFound", kind=ResourceNotFoundError):
        keys.release_key(first.name, token)
    keys.begin_recover_deleted_key(first.name).result()
    assert keys.release_key(first.name, token).value
    keys.begin_delete_key(first.name).result()
    keys.purge_deleted_key(first.name)
    with refused(404, "KeyNotFound", kind=ResourceNotFoundError):
        keys.release_key(first.name, token)


@scenario("K.release_key under an instance that M made, where the key's policy names it; and under no other")
def released_under_an_instance(world: World) -> None:
    keys, data = world.keys(), runtime()
    with world.instance() as url, world.instance() as other:
        policy = release_policy(url, x_ms_attestation_type="sevsnpvm")
        name = keys.create_rsa_key(
            fresh("r"), hardware_protected=True, exportable=True, release_policy=policy
        ).name
        assert keys.release_key(name, world.snp_token(data, url)).value
        with refused(403, "Forbidden", "does not meet key release policy requirements"):
            keys.release_key(name, world.snp_token(data))
        with refused(403, "Forbidden", "cannot be verified"):
            keys.release_key(name, world.snp_token(data, other))


@scenario(
    "CryptographyClient.create_rsa_private_key and create_rsa_public_key: pyca/cryptography's own objects"
)
def keys_as_objects(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    client = keys.get_cryptography_client(keys.create_rsa_key(name).name)
    private, public = client.create_rsa_private_key(), client.create_rsa_public_key()
    assert (private.key_size, private.public_key().public_numbers()) == (2048, public.public_numbers())
    assert private.decrypt(public.encrypt(b"said", OAEP), OAEP) == b"said"
    for scheme in (padding.PKCS1v15(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)):
        public.verify(private.sign(b"said", scheme, hashes.SHA256()), b"said", scheme, hashes.SHA256())


@scenario("K.update_key_rotation_policy(KeyRotationPolicy(), ...): what is not said is as by default")
def rotation_policies(world: World) -> None:
    keys, name = world.keys(), fresh("k")
    keys.create_rsa_key(name)

    def actions(policy: KeyRotationPolicy) -> set[tuple[Any, ...]]:
        return {
            (each.action, each.time_after_create, each.time_before_expiry) for each in policy.lifetime_actions
        }

    notify = (KeyRotationPolicyAction.notify, None, "P30D")
    assert actions(keys.update_key_rotation_policy(name, KeyRotationPolicy())) == {notify}
    rotate = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P2M")
    made = keys.update_key_rotation_policy(name, KeyRotationPolicy(), lifetime_actions=[rotate])
    assert (made.expires_in, actions(made)) == (None, {(KeyRotationPolicyAction.rotate, "P2M", None), notify})
    found = keys.get_key_rotation_policy(name)
    assert (found.id, found.created_on, found.updated_on) == (made.id, made.created_on, made.updated_on)
    longer = keys.update_key_rotation_policy(name, made, expires_in="P90D")
    assert (longer.expires_in, actions(longer)) == ("P90D", actions(made))
    sooner = KeyRotationLifetimeAction(KeyRotationPolicyAction.notify, time_before_expiry="P60D")
    last = keys.update_key_rotation_policy(name, longer, lifetime_actions=[sooner])
    assert (last.expires_in, actions(last)) == ("P90D", {(KeyRotationPolicyAction.notify, None, "P60D")})
    assert keys.rotate_key(name).properties.expires_on is not None


@scenario("K.list_deleted_keys(max_page_size=2).by_page(); each has its dates, and is gone once it is purged")
def deleted_keys(world: World) -> None:
    keys, names = world.keys(), {fresh("gone") for _ in range(5)}
    made = {name: keys.create_ec_key(name) for name in names}
    for name in names:
        deleted = keys.begin_delete_key(name).result()
        assert (deleted.id, deleted.recovery_id) == (made[name].id, f"{world.vault}/deletedkeys/{name}")
    pages = [list(page) for page in keys.list_deleted_keys(max_page_size=2).by_page()]
    assert max(map(len, pages)) == 2
    found = {each.name: each for page in pages for each in page}
    for name in names:
        life = found[name].scheduled_purge_date - found[name].deleted_date
        assert life.days == found[name].properties.recoverable_days == 90
        keys.purge_deleted_key(name)
    assert not names & {each.name for each in keys.list_deleted_keys()}
