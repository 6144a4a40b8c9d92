"""Rotation: a new version like the last, and the policy about when."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kluis.formats.encoding import b64
from tests.keys import rsa_key
from tests.services.keyvault.world import VAULT, World
from tests.services.web.issuer import NOW

AT = int(NOW.timestamp())
DAY = 86_400
USUAL = {"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}


def rotate_after(after: str) -> dict[str, Any]:
    """A rule that rotates."""
    return {"trigger": {"timeAfterCreate": after}, "action": {"type": "rotate"}}


def before(time: str, action: str = "Rotate") -> dict[str, Any]:
    """A rule that does something so long before the expiry."""
    return {"trigger": {"timeBeforeExpiry": time, "timeAfterCreate": None}, "action": {"type": action}}


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


@pytest.mark.parametrize(
    ("kty", "more"),
    [
        ("EC", {"crv": "P-521"}),
        ("RSA", {"key_size": 3072, "public_exponent": 3}),
    ],
)
def test_rotating_keeps_the_size(kty: str, more: dict[str, Any]) -> None:
    """Curve, length and public exponent stay."""
    world = World()
    made = world.ok("POST", "/keys/k/create", {"kty": kty, **more})["key"]
    turned = world.ok("POST", "/keys/k/rotate")["key"]
    for member in ("crv", "e"):
        assert turned.get(member) == made.get(member)
    assert len(turned.get("n", "")) == len(made.get("n", ""))


def test_rotating_keeps_the_size_of_bytes() -> None:
    """No member tells how long they are: what only 192 bits do, the new version does."""
    world = World()
    made = world.ok("POST", "/keys/k/create", {"kty": "oct-HSM", "key_size": 192})["key"]
    turned = world.ok("POST", "/keys/k/rotate")["key"]
    assert turned["kid"] != made["kid"]
    asked = {"alg": "A192KW", "value": b64.encode_url(bytes(32))}
    assert world.ok("POST", "/keys/k//wrapkey", asked)["kid"] == turned["kid"]


def test_rotating_an_exponent_that_is_not_made_here() -> None:
    """A key that came with another exponent is rotated to one of 65537."""
    world, key = World(), rsa_key()
    numbers, e = key.private_numbers(), 2**32 - 5
    d = pow(e, -1, math.lcm(numbers.p - 1, numbers.q - 1))
    given = {"n": key.public_key().public_numbers().n, "e": e, "d": d, "p": numbers.p, "q": numbers.q}
    jwk = {name: b64.encode_url(value.to_bytes(256, "big")) for name, value in given.items()}
    assert world.ok("PUT", "/keys/k", {"key": {"kty": "RSA", **jwk}})["key"]["e"] == "____-w"
    assert world.ok("POST", "/keys/k/rotate")["key"]["e"] == "AQAB"


def test_a_policy_is_kept_and_gives_new_versions_their_end() -> None:
    """A rotated version gets the lifetime in the policy."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    assert world.ok("GET", "/keys/k/rotationpolicy") == {
        "id": f"{VAULT}/keys/k/rotationpolicy", "attributes": {},
        "lifetimeActions": [USUAL],
    }  # fmt: skip
    asked = {"lifetimeActions": [rotate_after("P90D")], "attributes": {"expiryTime": "P1Y"}}
    kept = world.ok("PUT", "/keys/k/rotationpolicy", asked)
    assert kept == {
        "id": f"{VAULT}/keys/k/rotationpolicy",
        "attributes": {"expiryTime": "P1Y", "created": AT, "updated": AT},
        "lifetimeActions": [{"trigger": {"timeAfterCreate": "P90D"}, "action": {"type": "Rotate"}}, USUAL],
    }
    assert world.ok("GET", "/keys/k/rotationpolicy") == kept
    assert world.ok("POST", "/keys/k/rotate")["attributes"]["exp"] == AT + 365 * DAY


def test_a_policy_that_says_nothing_is_the_usual_one() -> None:
    """An empty policy is the default; a notification replaces the default's; its author is on record."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    for empty in ({}, {"lifetimeActions": []}, {"lifetimeActions": None, "attributes": {}}):
        assert world.ok("PUT", "/keys/k/rotationpolicy", empty)["lifetimeActions"] == [USUAL]
    rule = before("P10D", "notify")
    rule["trigger"]["timeAfterCreate"] = ""
    kept = world.ok("PUT", "/keys/k/rotationpolicy", {"lifetimeActions": [rule]})
    assert kept["lifetimeActions"] == [
        {"trigger": {"timeBeforeExpiry": "P10D"}, "action": {"type": "Notify"}}
    ]
    told = world.ok("GET", "/audit", roles=("Kluis Auditor",))["value"]
    assert (told[-1]["operation"], told[-1]["key"], told[-1]["subject"]) == (
        "rotation-policy",
        "k",
        "somebody",
    )


def test_rotating_what_has_changed_meanwhile() -> None:
    """A key of another type that takes the place of the one being rotated gets no material of that one's."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    real = world.storage.update

    def late(work: Any, *meanwhile: Any) -> Any:
        world.storage.update = real
        world.ok("POST", "/keys/k/create", {"kty": "oct-HSM"})
        return real(work, *meanwhile)

    world.storage.update = late
    assert world.refused("POST", "/keys/k/rotate")[:3] == (409, "Conflict", "Key k was changed meanwhile.")
    assert world.ok("GET", "/keys/k/")["key"]["kty"] == "oct-HSM"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"attributes": {"expiryTime": "P27D"}}, "attributes.expiryTime: want at least P28D, got P27D"),
        (
            {"attributes": {"expiryTime": "soon"}},
            "attributes.expiryTime: want an ISO 8601 duration such as P90D or P2Y, got 'soon'",
        ),
        ({"attributes": {"expiryTime": "PT48H"}}, "attributes.expiryTime: want at least P28D, got PT48H"),
        ({"lifetimeActions": [rotate_after("P6D")]}, "lifetimeActions.trigger: want at least P7D, got P6D"),
        ({"lifetimeActions": [rotate_after("P7D")] * 2}, "lifetimeActions: want one Rotate, got more"),
        (
            {"lifetimeActions": [before("P7D", "Notify")] * 2},
            "lifetimeActions: want one Notify, got more",
        ),
        (
            {"lifetimeActions": [rotate_after("P22D")], "attributes": {"expiryTime": "P28D"}},
            "lifetimeActions.trigger: want at least P7D less than attributes.expiryTime P28D, got P22D",
        ),
        (
            {"lifetimeActions": [before("P1M")], "attributes": {"expiryTime": "P36D"}},
            "lifetimeActions.trigger: want at least P7D less than attributes.expiryTime P36D, got P1M",
        ),
        (
            {"lifetimeActions": [before("P7D")]},
            "lifetimeActions.trigger: want attributes.expiryTime for timeBeforeExpiry, got none",
        ),
        (
            {"lifetimeActions": [{"trigger": {"timeAfterCreate": "P9D"}, "action": {"type": "Notify"}}]},
            "lifetimeActions.trigger: want timeBeforeExpiry for Notify, got timeAfterCreate",
        ),
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
