"""Someone with the role of an owner, who has no key of a signer, but documents that signers signed before."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from kluis.testing.plugin import storage
from tests.services.attestation.owners import Owner, owner
from tests.services.attestation.world import PERMIT, VERSION, World, error_of

__all__ = ["storage"]

FIRST, STOLEN = owner("first"), owner("second")
NEVER: Any = object()


@pytest.fixture
def world(storage: SealedStore) -> World:
    """A service whose own instance trusts one signer, who has added another."""
    made = World(storage, policy_signers=(FIRST.der,))
    assert change(made, "add", FIRST.certificate_of(STOLEN)).status_code == 200
    return made


def change(world: World, what: str, jws: str) -> Any:
    """Send a document, as anyone with the role can."""
    return world.owner("POST", f"/certificates:{what}?{VERSION}", content=json.dumps(jws))


def sets_a_policy(world: World, signer: Owner) -> bool:
    """Whether a signer's policy is accepted."""
    path = f"/policies/SgxEnclave?{VERSION}"
    return bool(world.owner("PUT", path, content=signer.policy(PERMIT)).status_code == 200)


def dated(at: Any) -> str:
    """A wish for the removed certificate, with this ``iat``."""
    members = {"policyCertificate": {"kty": "RSA", "x5c": STOLEN.chain}}
    return FIRST.sign(json.dumps(members if at is NEVER else {**members, "iat": at}).encode())


def test_a_removed_signer_does_not_return_by_its_own_removal(world: World) -> None:
    """The very document that removed it, and the one that added it, sent again to add it."""
    assert sets_a_policy(world, STOLEN)
    removal = FIRST.certificate_of(STOLEN)
    assert change(world, "remove", removal).status_code == 200
    for name in ("policyCertificate", "maa-policyCertificate", "x-ms-policyCertificate"):
        status, code, message = error_of(change(world, "add", FIRST.certificate_of(STOLEN, name)))
        assert (status, code) == (400, "InvalidOperation")
        assert "the key of CN=second was removed: want iat after" in message
    assert not sets_a_policy(world, STOLEN)


def test_another_certificate_of_a_removed_key(world: World) -> None:
    """A document from before that names another certificate of the key, and was not sent yet."""
    kept_back = FIRST.certificate_of(Owner("renewed", STOLEN.key))
    assert change(world, "remove", FIRST.certificate_of(STOLEN)).status_code == 200
    assert error_of(change(world, "add", kept_back))[1] == "InvalidOperation"


def test_a_signer_that_was_not_there_when_it_was_removed(storage: SealedStore) -> None:
    """Its owner removes it in case; a document to add it was signed before, and comes after."""
    world = World(storage, policy_signers=(FIRST.der,))
    assert change(world, "remove", FIRST.certificate_of(STOLEN)).status_code == 200
    assert error_of(change(world, "add", FIRST.certificate_of(STOLEN)))[1] == "InvalidOperation"


@pytest.mark.parametrize("seconds", [-3600, 0, 3600, True, None, 0.5, "soon", NEVER])
def test_documents_without_a_later_time(world: World, seconds: Any) -> None:
    """Dated before the removal, in its second, far ahead, or not in whole seconds."""
    removed = int(world.clock.at.timestamp())
    assert change(world, "remove", FIRST.certificate_of(STOLEN)).status_code == 200
    world.clock.at += timedelta(seconds=60)
    at = removed + seconds if type(seconds) is int else seconds
    assert error_of(change(world, "add", dated(at)))[1] == "InvalidOperation"


def test_its_owners_may_add_it_again(world: World) -> None:
    """With the time, a signer adds it again; an older document does not even then undo a further removal."""
    assert change(world, "remove", FIRST.certificate_of(STOLEN)).status_code == 200
    world.clock.at += timedelta(seconds=60)
    again = dated(int(world.clock.at.timestamp()))
    assert change(world, "add", again).status_code == 200
    assert sets_a_policy(world, STOLEN)
    assert change(world, "remove", FIRST.certificate_of(STOLEN)).status_code == 200
    assert error_of(change(world, "add", again))[1] == "InvalidOperation"
