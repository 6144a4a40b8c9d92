"""Rotation: a new version like the last, and the policy about when."""

from __future__ import annotations

from typing import Any

import pytest

from kluis.services.keyvault.rotation import seconds
from tests.services.keyvault.world import VAULT, World
from tests.services.web.issuer import NOW

AT = int(NOW.timestamp())
DAY = 86_400


def rotate_after(after: str) -> dict[str, Any]:
    """A rule that rotates."""
    return {"trigger": {"timeAfterCreate": after}, "action": {"type": "rotate"}}


def test_rotating() -> None:
    """A new version has another key, and the type, operations, tags, exportability and policy of the last."""
    world = World()
    old = world.exportable(kty="RSA-HSM")
    new = world.ok("POST", "/keys/k/rotate")
    assert new["key"]["n"] != old["key"]["n"]
    assert new["key"]["kid"] != old["key"]["kid"]
    for bundle in (old, new):
        del bundle["key"]["n"], bundle["key"]["kid"]
    assert new == old
    assert world.refused("POST", "/keys/none/rotate")[0] == 404


@pytest.mark.parametrize(("kty", "more"), [("EC", {"crv": "P-521"}), ("oct-HSM", {"key_size": 192})])
def test_rotating_keeps_the_size(kty: str, more: dict[str, Any]) -> None:
    """Curve and length stay."""
    world = World()
    made = world.ok("POST", "/keys/k/create", {"kty": kty, **more})
    assert world.ok("POST", "/keys/k/rotate")["key"].get("crv") == made["key"].get("crv")


def test_a_policy_is_kept_and_gives_new_versions_their_end() -> None:
    """What a policy says of its versions' life is what a rotated version gets."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    assert world.ok("GET", "/keys/k/rotationpolicy") == {
        "id": f"{VAULT}/keys/k/rotationpolicy", "attributes": {},
        "lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}],
    }  # fmt: skip
    asked = {"lifetimeActions": [rotate_after("P90D")], "attributes": {"expiryTime": "P1Y"}}
    kept = world.ok("PUT", "/keys/k/rotationpolicy", asked)
    assert kept == {
        "id": f"{VAULT}/keys/k/rotationpolicy",
        "attributes": {"expiryTime": "P1Y", "created": AT, "updated": AT},
        "lifetimeActions": [{"trigger": {"timeAfterCreate": "P90D"}, "action": {"type": "Rotate"}}],
    }
    assert world.ok("GET", "/keys/k/rotationpolicy") == kept
    assert world.ok("POST", "/keys/k/rotate")["attributes"]["exp"] == AT + 365 * DAY


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"attributes": {"expiryTime": "P27D"}}, "attributes.expiryTime: want at least P28D, got P27D"),
        (
            {"attributes": {"expiryTime": "PT5H"}},
            "attributes.expiryTime: want an ISO 8601 duration such as P90D or P2Y, got 'PT5H'",
        ),
        ({"lifetimeActions": [rotate_after("P6D")]}, "lifetimeActions.trigger: want at least P7D, got P6D"),
        ({"lifetimeActions": [rotate_after("P7D")] * 2}, "lifetimeActions: want one Rotate, got more"),
        ({"lifetimeActions": [{}] * 9}, "lifetimeActions: want at most 8, got 9"),
        (
            {"lifetimeActions": [{"trigger": {}, "action": {"type": "Explode"}}]},
            "lifetimeActions: want a trigger and the action Rotate or Notify, got another",
        ),
        (
            {"lifetimeActions": [{"trigger": {}, "action": {"type": "Rotate"}}]},
            "lifetimeActions.trigger: want timeAfterCreate or timeBeforeExpiry, got another",
        ),
    ],
)
def test_policies_that_are_none(asked: Any, message: str) -> None:
    """A policy that cannot be meant is refused."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    assert world.refused("PUT", "/keys/k/rotationpolicy", asked) == (400, "BadParameter", message, None)


def test_durations() -> None:
    """Years, months and days, in days of 86400 seconds."""
    assert seconds("P1Y2M3D", "it") == (365 + 60 + 3) * DAY
