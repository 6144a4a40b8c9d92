"""A signing key that must not sign another token, in another process of its attestation service."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from kluis.services.attestation.tokens import signing
from kluis.testing.plugin import storage
from tests.services.attestation.test_attesting import sgx
from tests.services.attestation.world import World, header_of

__all__ = ["storage"]


def kid(world: World) -> str:
    """The key that signs now."""
    found: str = header_of(world.attest("SgxEnclave", sgx()).json()["token"])["kid"]
    return found


def test_no_process_signs_with_it_again(storage: Any) -> None:
    """Once the owner has the answer, no process has another token signed by the old key."""
    here, there = World(storage), World(storage)
    old = kid(there)
    assert kid(here) == old
    new = here.owner("POST", "/certs:rotate", json={"signs_in_seconds": 0}).json()["keys"][0]["kid"]
    assert kid(here) == new
    assert kid(there) == new


def test_a_clock_that_stands_still(storage: Any) -> None:
    """A host that stops the clock of one process does not keep the old key in use there."""
    here, there = World(storage), World(storage)
    old = kid(there)
    assert kid(here) == old
    new = here.owner("POST", "/certs:rotate", json={"signs_in_seconds": 0}).json()["keys"][0]["kid"]
    here.clock.at += timedelta(seconds=10 * signing.HELD_SECONDS)
    assert json.dumps(kid(there)) == json.dumps(new)  # its clock did not move


def test_a_key_that_was_being_replaced_already(storage: Any) -> None:
    """A rotation at once deletes the old key, too, where its successor only waited to sign."""
    world = World(storage)
    world.clock.at += timedelta(hours=2)
    old = kid(world)
    world.owner("POST", "/certs:rotate")  # the usual way: the next key signs in an hour
    assert kid(world) == old
    new = world.owner("POST", "/certs:rotate", json={"signs_in_seconds": 0}).json()["keys"][0]["kid"]
    assert kid(world) == new
    world.clock.at -= timedelta(minutes=1)  # by the host
    assert kid(world) != old
