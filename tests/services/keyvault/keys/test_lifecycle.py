"""Keys that are deleted, recovered, purged, backed up and restored."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kluis.formats.encoding import b64
from tests.services.keyvault.world import World, policy
from tests.services.web.issuer import NOW

AT = int(NOW.timestamp())
DAY = 86_400


def test_there_and_back() -> None:
    """A deleted key is gone until it is recovered, whole."""
    world = World()
    made = world.ok("POST", "/keys/k/create", {"kty": "EC", "tags": {"a": "b"}})
    gone = world.ok("DELETE", "/keys/k")
    assert gone == {
        **made, "recoveryId": "https://myvault.vault.example:8443/deletedkeys/k", "deletedDate": AT,
        "scheduledPurgeDate": AT + 90 * DAY,
    }  # fmt: skip
    assert world.refused("GET", "/keys/k/")[:2] == (404, "KeyNotFound")
    assert world.refused("POST", "/keys/k//sign", {"alg": "ES256", "value": "AA"})[0] == 404
    assert world.ok("GET", "/deletedkeys/K") == gone
    assert [each["kid"][-2:] for each in world.ok("GET", "/deletedkeys")["value"]] == ["/k"]
    assert world.ok("GET", "/keys")["value"] == []
    assert world.ok("POST", "/deletedkeys/k/recover") == made
    assert world.ok("GET", "/keys/k/") == made
    for method, path in (("GET", "k"), ("POST", "k/recover"), ("DELETE", "k")):
        assert world.refused(method, f"/deletedkeys/{path}") == (
            404, "KeyNotFound", "Deleted Key not found: k", None,
        )  # fmt: skip


def test_purged_is_gone() -> None:
    """A purged key is nowhere, its older versions neither, and its name is free."""
    world = World()
    for _ in range(2):
        world.ok("POST", "/keys/k/create", {"kty": "EC"})
    world.ok("DELETE", "/keys/k")
    world.ok("DELETE", "/deletedkeys/k")
    assert world.refused("DELETE", "/deletedkeys/k")[0] == 404
    assert not any(table in ("keys", "versions") for table, _ in world.storage.rows)
    assert len(world.ok("POST", "/keys/k/create", {"kty": "EC"})["key"]["kid"]) > 32


def test_time_purges() -> None:
    """Once its days are over a deleted key is gone, for every caller, and its name is free."""
    world = World(recoverable_days=7)
    made = world.ok("POST", "/keys/k/create", {"kty": "EC"})
    assert made["attributes"]["recoveryLevel"] == "CustomizedRecoverable+Purgeable"
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    world.ok("DELETE", "/keys/k")
    world.clock.at = NOW + timedelta(days=7)
    world.service.tend()
    assert world.refused("GET", "/deletedkeys/k")[0] == 404
    assert world.ok("GET", "/deletedkeys")["value"] == []
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    assert len(world.ok("GET", "/keys/k/versions")["value"]) == 1


def test_purge_protection() -> None:
    """A vault may protect its deleted keys from everyone."""
    world = World(purge_protection=True)
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    world.ok("DELETE", "/keys/k")
    status, code, message, inner = world.refused("DELETE", "/deletedkeys/k")
    assert (status, code, inner) == (403, "Forbidden", "ForbiddenByPolicy")
    assert message == (
        f"Operation purge is not enabled for this vault: deleted keys are protected until {AT + 90 * DAY}."
    )
    assert world.ok("POST", "/deletedkeys/k/recover")["attributes"]["recoveryLevel"] == "Recoverable"


def test_backup_brings_back_every_version() -> None:
    """A backup has every version, and restores only where no such name is."""
    world = World()
    first = world.ok("POST", "/keys/k/create", {"kty": "EC"})
    second = world.exportable("other")
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    blob = world.ok("POST", "/keys/k/backup")["value"]
    assert world.refused("POST", "/keys/restore", {"value": blob})[:2] == (409, "Conflict")
    world.ok("DELETE", "/keys/k")
    assert world.refused("POST", "/keys/restore", {"value": blob})[0] == 409
    world.ok("DELETE", "/deletedkeys/k")
    world.ok("POST", "/keys/restore", {"value": blob})
    assert world.ok("GET", f"/keys/k/{first['key']['kid'][-32:]}") == first
    assert len(world.ok("GET", "/keys/k/versions")["value"]) == 2
    assert world.ok("GET", "/keys/other/") == second


@pytest.mark.parametrize("at", [0, 8, 9, 30, -1])
def test_a_changed_backup(at: int) -> None:
    """A backup with one bit changed is refused."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    blob = bytearray(b64.decode_url(world.ok("POST", "/keys/k/backup")["value"], "blob"))
    blob[at] ^= 1
    assert world.refused("POST", "/keys/restore", {"value": b64.encode_url(bytes(blob))}) == (
        400, "BadParameter", "value: want a backup that this vault made, got another", None,
    )  # fmt: skip


def test_a_backup_of_another_vault() -> None:
    """A backup is of no use in another vault: else its keys would come under other authorities."""
    one, other = World(), World()
    one.ok("POST", "/keys/k/create", {"kty": "EC"})
    blob = one.ok("POST", "/keys/k/backup")["value"]
    for value in (blob, "", "AAAA", b64.encode_url(b"KLUISKEY\x01" + bytes(40)), 5, None):
        status, code, _, _ = other.refused("POST", "/keys/restore", {"value": value})
        assert (status, code) == (400, "BadParameter")


def test_no_way_around_an_immutable_policy() -> None:
    """A backup from before a policy was immutable does not bring the key back under what was before."""
    world = World()
    loose = policy({"claim": "anything", "equals": "goes"})
    world.exportable(rule=loose)
    blob = world.ok("POST", "/keys/k/backup")["value"]
    strict = {"data": b64.encode_url(policy()), "immutable": True}
    world.ok("PATCH", "/keys/k/", {"release_policy": strict})
    later = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    world.ok("DELETE", "/deletedkeys/k")
    assert world.refused("POST", "/keys/restore", {"value": blob})[2] == (
        "AKV.SKR.1020: Immutable Key Release Policy cannot be modified."
    )
    assert world.ok("POST", "/keys/restore", {"value": later})["release_policy"]["data"] == strict["data"]
