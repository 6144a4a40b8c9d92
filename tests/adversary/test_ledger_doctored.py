"""Ledgers whose dishonest service signed them itself: what governs them still has to be its members'."""

from __future__ import annotations

import pytest

from kluis.formats.ccf.domain import Writes
from kluis.formats.encoding import jcs
from kluis.ledger.audit import Check
from kluis.ledger.governance.documents import JWT_ISSUERS, JWT_KEYS
from kluis.ledger.governance.replay import Replay
from tests.ledger.audit.forge import Forge, failed
from tests.ledger.governance.consortium import opened

ISSUER = b"https://issuer.example"
KEY = jcs.dumps([{"issuer": ISSUER.decode(), "public_key": "AAAA"}])
PLANTED: dict[str, Writes] = {
    "a key of nobody's issuer": {JWT_KEYS: {b"kid": KEY}},
    "a key that is no key": {JWT_KEYS: {b"kid": b"7"}},
    "an issuer": {JWT_ISSUERS: {ISSUER: jcs.dumps({"auto_refresh": True})}},
    "an issuer and its key": {
        JWT_ISSUERS: {ISSUER: jcs.dumps({"auto_refresh": True})},
        JWT_KEYS: {b"kid": KEY},
    },
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("replayed", [True, False])
def test_whose_tokens_count_is_the_members_decision(name: str, replayed: bool) -> None:
    """A service that registers an issuer or a key of its own is found: it would be any user."""
    made = Forge.governed()
    made.write(PLANTED[name])
    report = made.audit(replay=Replay() if replayed else None)
    found = {check for check, *_ in failed(report)}
    assert Check.GOVERNANCE in found
    assert (Check.REPLAY in found) is replayed


def test_keys_that_nodes_refresh() -> None:
    """Members decided that nodes fetch an issuer's keys: these change without them, and no other's."""
    known = {"genesis": {JWT_ISSUERS: {ISSUER: jcs.dumps({"auto_refresh": True, "issuer": ISSUER.decode()})}}}
    made = Forge(**known)
    made.write({JWT_KEYS: {b"kid": KEY}})
    made.write({JWT_KEYS: {b"kid": None}})
    assert failed(made.audit()) == []
    both = jcs.dumps([*_keys(KEY), {"issuer": "https://other.example", "public_key": "AAAA"}])
    made.write({JWT_KEYS: {b"kid": both}})
    assert [check for check, *_ in failed(made.audit())] == [Check.GOVERNANCE]


def _keys(raw: bytes) -> list[jcs.Writable]:
    found = jcs.loads(raw, "keys")
    assert isinstance(found, list)
    return list(found)  # type: ignore[arg-type]


def test_replay_alone_finds_planted_keys() -> None:
    """Without any other check."""
    consortium = opened()
    consortium.commit({JWT_KEYS: {b"kid": KEY}})
    ((_, problems),) = consortium.replayed()
    assert len(problems) == 1
    assert "without a member's signed request" in problems[0]
