"""What can be made, brought and changed, and each rule that refuses."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kluis.formats.encoding import b64
from tests.services.keyvault.world import World, policy
from tests.services.web.issuer import NOW

POLICY = {"data": b64.encode_url(policy())}
OTHER = {"data": b64.encode_url(policy({"claim": "a", "equals": "b"}))}
AT = int(NOW.timestamp())
BAD = (400, "BadParameter")


def create(world: World, name: str = "k", **asked: Any) -> Any:
    """Make a key."""
    return world.ok("POST", f"/keys/{name}/create", {"kty": "EC", **asked})


def refused(world: World, asked: Any, name: str = "k") -> str:
    """Ask for a key that is not made: the message."""
    status, code, message, _ = world.refused("POST", f"/keys/{name}/create", asked)
    assert (status, code) == BAD
    return message


EXPORTABLE = {"kty": "RSA-HSM", "attributes": {"exportable": True}, "release_policy": POLICY}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "kty: want one, got none"),
        ({"kty": "DSA"}, "kty: want one of RSA, RSA-HSM, EC, EC-HSM, oct, oct-HSM, got 'DSA'"),
        ({"kty": "RSA", "key_size": 1024}, "key_size: want one of 2048, 3072, 4096, got 1024"),
        ({"kty": "RSA", "key_size": 1 << 70},
         "key_size: want one of 2048, 3072, 4096, got 1180591620717411303424"),
        ({"kty": "RSA", "key_size": 10**4000},
         f"key_size: want one of 2048, 3072, 4096, got 1{'0' * 31}"),
        ({"kty": "RSA", "public_exponent": 15}, "public_exponent: want one of 3, 5, 17, 257, 65537, got 15"),
        ({"kty": "EC", "crv": "P-192"}, "crv: want one of P-256, P-384, P-521, P-256K, got 'P-192'"),
        ({"kty": "EC", "crv": "P-256", "key_size": 384}, "key_size: want 256 on P-256, got 384"),
        ({"kty": "oct", "key_size": 64}, "key_size: want one of 128, 192, 256, 384, 512, got 64"),
        ({"kty": "EC", "key_ops": ["encrypt"]},
         "key_ops: want some of sign, verify, import, export for EC, got 'encrypt'"),
        ({"kty": "EC", "tags": {str(at): "" for at in range(16)}}, "tags: want at most 15, got 16"),
        ({"kty": "EC", "tags": {"a": "b" * 257}},
         "tags: want names and values of at most 256 characters, got longer"),
        ({"kty": "EC", "attributes": {"nbf": 2, "exp": 2}}, "attributes.exp: want after nbf 2, got 2"),
        (
            {"kty": "EC", "attributes": {"exp": -1}},
            "attributes.exp: want seconds since 1970, up to the year 9999, got -1",
        ),
        (
            {"kty": "RSA-HSM", "attributes": {"exportable": True}},
            "AKV.SKR.1004: Exportable keys must have release policy.",
        ),
        (
            {"kty": "RSA-HSM", "release_policy": POLICY},
            "AKV.SKR.1005: Non-exportable keys must not have release policy.",
        ),
        (
            {**EXPORTABLE, "kty": "RSA"},
            "AKV.SKR.1006: Software keys are not exportable: want RSA-HSM, got RSA.",
        ),
        (
            {**EXPORTABLE, "release_policy": {"immutable": True}},
            "AKV.SKR.1004: Exportable keys must have release policy: want data, got none.",
        ),
        (
            {**EXPORTABLE, "release_policy": {"data": policy().decode()}},
            "AKV.SKR.1004: Exportable keys must have release policy. release_policy.data: want "
            "base64url, got "
            "something else",
        ),
    ],
)  # fmt: skip
def test_what_is_not_made(asked: Any, message: str) -> None:
    """What cannot be meant is refused in words that say what was wanted, and no key is made."""
    world = World()
    assert refused(world, asked) == message
    assert world.refused("GET", "/keys/k/")[0] == 404


def test_what_is_just_within_bounds() -> None:
    """Fifteen tags, and only a beginning or an end, are accepted; a key works from its beginning to its
    end.
    """
    world = World()
    tags = {str(at): "v" * 256 for at in range(15)}
    assert create(world, tags=tags)["tags"] == tags
    for attributes in ({"nbf": AT}, {"exp": AT + 1}, {"nbf": AT, "exp": AT + 1}):
        made = create(world, attributes=attributes)
        assert attributes.items() <= made["attributes"].items()
        world.ok("POST", "/keys/k//sign", {"alg": "ES256", "value": b64.encode_url(bytes(32))})


def test_bodies_of_another_shape() -> None:
    """A body that is no object of the kind is the caller's fault."""
    world = World()
    for body in (b"", b"[]", b'{"kty":1}', b"\xff", b'{"kty":"EC"', b"[" * 10_000, b'{"tags":{"a":1}}'):
        status, code, message, _ = world.refused("POST", "/keys/k/create", body)
        assert (status, code) == BAD
        assert message.startswith("body: ")
    answer = world.send("POST", "/keys/k/create", b" " * 300_000)
    assert answer.status_code == 413


def test_a_new_version_keeps_what_is_the_names() -> None:
    """A new version inherits the release policy, and cannot be otherwise exportable."""
    world = World()
    first = world.exportable(kty="RSA-HSM")
    second = world.ok("POST", "/keys/k/create", {"kty": "RSA-HSM"})
    assert second["attributes"]["exportable"] is True
    assert second["release_policy"] == first["release_policy"]
    assert refused(world, {"kty": "RSA-HSM", "attributes": {"exportable": False}}) == (
        "AKV.SKR.1003: The exportable attribute of an existing key cannot be changed: want true, got false."
    )
    world.ok("POST", "/keys/plain/create", {"kty": "RSA-HSM"})
    assert refused(world, EXPORTABLE, "plain") == (
        "AKV.SKR.1003: The exportable attribute of an existing key cannot be changed: want false, got true."
    )
    listed = world.ok("GET", "/keys/k/versions")["value"]
    assert {each["kid"] for each in listed} == {first["key"]["kid"], second["key"]["kid"]}
    assert world.ok("GET", f"/keys/k/{first['key']['kid'][-32:]}")["key"]["n"] == first["key"]["n"]


def test_an_immutable_policy_stays() -> None:
    """An immutable policy is changed by no update, no new version, and is never made mutable again."""
    world = World()
    world.exportable(immutable=True)
    wanted = (*BAD, "AKV.SKR.1020: Immutable Key Release Policy cannot be modified.", None)
    assert world.refused("PATCH", "/keys/k/", {"release_policy": OTHER}) == wanted
    assert world.refused("PATCH", "/keys/k/", {"release_policy": {**POLICY, "immutable": False}}) == wanted
    assert world.refused("POST", "/keys/k/create", {**EXPORTABLE, "release_policy": OTHER}) == wanted
    same = world.ok("PATCH", "/keys/k/", {"release_policy": {**POLICY, "immutable": True}})
    assert same["release_policy"]["immutable"] is True


def test_a_mutable_policy_changes_for_the_name() -> None:
    """A policy is changed without a version, for every version at once, and with one for none."""
    world = World()
    kid = world.exportable()["key"]["kid"]
    assert world.refused("PATCH", f"/keys/k/{kid[-32:]}", {"release_policy": OTHER}) == (
        *BAD, "AKV.SKR.1016: Key Release Policy can only be set on versionless key", None,
    )  # fmt: skip
    changed = world.ok("PATCH", "/keys/k/", {"release_policy": {**OTHER, "immutable": True}})
    assert changed["release_policy"]["data"] == OTHER["data"]
    assert world.refused("PATCH", "/keys/k/", {"release_policy": POLICY})[2].startswith("AKV.SKR.1020")


def test_every_change_of_a_policy_is_on_record() -> None:
    """A policy that comes with a new version applies to the old ones, too, and the record has it."""
    world = World()
    world.exportable()
    world.exportable()
    world.ok("PATCH", "/keys/k/", {"release_policy": OTHER})
    world.ok("POST", "/keys/k/create", {"kty": "EC-HSM", "release_policy": POLICY})
    jwk = {"kty": "oct-HSM", "k": b64.encode_url(bytes(32))}
    world.ok("PUT", "/keys/k", {"key": jwk, "release_policy": {**OTHER, "immutable": True}})
    told = world.ok("GET", "/audit", roles=("Kluis Auditor",))["value"]
    assert [each["operation"] for each in told] == [
        "create", "create", "policy", "create", "policy", "import", "policy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "on_record"),
    [
        ({"attributes": {"enabled": False}}, True), ({"attributes": {"exp": 1 << 32}}, True),
        ({"key_ops": ["sign"]}, True), ({"tags": {"a": "b"}}, True), ({}, False),
        ({"attributes": {"enabled": True}, "key_ops": ["sign", "verify"], "tags": {}}, False),
    ],
)  # fmt: skip
def test_who_changes_a_key_is_on_record(asked: Any, on_record: bool) -> None:
    """Of which version, too: somebody enabled a disabled key again. What changes nothing is not on record."""
    world = World()
    first = world.ok("POST", "/keys/k/create", {"kty": "EC"})["key"]["kid"][-32:]
    last = world.ok("POST", "/keys/k/create", {"kty": "EC"})["key"]["kid"][-32:]
    for version in (first, ""):
        world.ok("PATCH", f"/keys/k/{version}", asked)
    told = world.ok("GET", "/audit", roles=("Kluis Auditor",))["value"]
    found = [(each["operation"], each["version"], each["subject"]) for each in told[2:]]
    wanted = [("update", first, "somebody"), ("update", last, "somebody")]
    assert found == (wanted if on_record else [])


def test_a_policy_on_a_key_that_is_not_exportable() -> None:
    """A key that never leaves takes no policy for leaving."""
    world = World()
    create(world)
    assert world.refused("PATCH", "/keys/k/", {"release_policy": POLICY})[2] == (
        "AKV.SKR.1005: Non-exportable keys must not have release policy."
    )
    assert world.refused("PATCH", "/keys/k/", {"attributes": {"exportable": True}})[2] == (
        "AKV.SKR.1003: The exportable attribute of an existing key cannot be changed: want false, got true."
    )


def test_update_changes_what_it_names() -> None:
    """What an update leaves out stays, of the version that it names."""
    world = World()
    first = create(world, tags={"a": "b"}, attributes={"nbf": 5})
    create(world)
    version = first["key"]["kid"][-32:]
    changed = world.ok("PATCH", f"/keys/k/{version}", {"attributes": {"enabled": False}, "key_ops": ["sign"]})
    assert changed["attributes"] == {**first["attributes"], "enabled": False}
    assert (changed["tags"], changed["key"]["key_ops"]) == ({"a": "b"}, ["sign"])
    assert world.ok("GET", "/keys/k/")["attributes"]["enabled"] is True
    assert world.ok("GET", f"/keys/k/{version}") == changed


@pytest.mark.parametrize("spelling", ["Hsm", "hsm", "HSM"])
def test_import_reads_hsm_in_any_case(spelling: str) -> None:
    """Azure's clients spell the member in two ways."""
    jwk = {"kty": "oct", "k": b64.encode_url(b"k" * 32)}
    assert World().ok("PUT", "/keys/k", {"key": jwk, spelling: True})["key"]["kty"] == "oct-HSM"


def test_two_writers_at_once() -> None:
    """Of what many do to one key at once nothing is lost: each version is there, and each event on record."""
    world = World()
    world.storage.twice = True
    create(world)
    threads = [threading.Thread(target=create, args=(world,)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(world.ok("GET", "/keys/k/versions")["value"]) == 7


def test_a_deleted_name_is_taken() -> None:
    """A name that can be recovered is not made again, brought or restored."""
    world = World()
    create(world)
    world.ok("DELETE", "/keys/k")
    wanted = (409, "Conflict", "ObjectIsDeletedButRecoverable")
    jwk = {"kty": "oct", "k": b64.encode_url(b"k" * 32)}
    for method, path, body in (("POST", "/keys/k/create", {"kty": "EC"}), ("PUT", "/keys/K", {"key": jwk})):
        status, code, _, inner = world.refused(method, path, body)
        assert (status, code, inner) == wanted
