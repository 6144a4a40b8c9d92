"""Ledgers whose dishonest service signed them itself: what governs them still has to be its members'."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, jcs
from kluis.formats.ietf import cose
from kluis.ledger import receipts
from kluis.ledger.audit import Check
from kluis.ledger.audit.end import Expected
from kluis.ledger.governance.replay import Replay
from tests.ledger import making
from tests.ledger.audit.forge import SECONDS, Forge, failed
from tests.ledger.audit.test_checks import recovered
from tests.ledger.governance.consortium import opened

ISSUER = b"https://issuer.example"
KEY = jcs.dumps([{"issuer": ISSUER.decode(), "public_key": "AAAA"}])
PLANTED: dict[str, Writes] = {
    "a key of nobody's issuer": {tables.JWT_KEYS: {b"kid": KEY}},
    "a key that is no key": {tables.JWT_KEYS: {b"kid": b"7"}},
    "an issuer": {tables.JWT_ISSUERS: {ISSUER: jcs.dumps({"auto_refresh": True})}},
    "an issuer and its key": {
        tables.JWT_ISSUERS: {ISSUER: jcs.dumps({"auto_refresh": True})},
        tables.JWT_KEYS: {b"kid": KEY},
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
    known = {
        "genesis": {
            tables.JWT_ISSUERS: {ISSUER: jcs.dumps({"auto_refresh": True, "issuer": ISSUER.decode()})}
        }
    }
    made = Forge(**known)
    made.write({tables.JWT_KEYS: {b"kid": KEY}})
    made.write({tables.JWT_KEYS: {b"kid": None}})
    assert failed(made.audit()) == []
    both = jcs.dumps([*_keys(KEY), {"issuer": "https://other.example", "public_key": "AAAA"}])
    made.write({tables.JWT_KEYS: {b"kid": both}})
    assert [check for check, *_ in failed(made.audit())] == [Check.GOVERNANCE]


GOVERNED = (tables.MEMBERS, tables.CONSTITUTION, tables.JWT_KEYS, "public:ccf.gov.users.certs")


def taken_over(made: Forge) -> None:
    """A recovery by somebody who has the files and no key: the successor endorses the service, and itself."""
    before, last = made.parties.service_key, made.batches[-1]
    recovered(made)
    key = making.key(13)  # of the recovery
    headers = {15: {6: SECONDS}, "ccf.v1": {}}
    start, end = TxId(2, 1), last.signature
    epoch = {"epoch.start.txid": str(start), "epoch.end.txid": str(end), "epoch.end.merkle.root": last.root}
    signed = cose.sign1(receipts.spki(before.public_key()), key, {**headers, "ccf.v1": epoch})
    link = {
        "endorsement": b64.encode(signed), "endorsement_epoch_begin": str(start),
        "endorsement_epoch_end": str(end), "endorsing_key": b64.encode(receipts.spki(key.public_key())),
    }  # fmt: skip
    made.write({tables.IDENTITY_ENDORSEMENT: {tables.ONLY: jcs.dumps(link)}})
    made.write({"public:app.entries": {b"subledger:0": b"invented"}})


@pytest.mark.parametrize("replayed", [True, False])
def test_a_recovery_that_no_member_accepted_is_not_the_pinned_service(replayed: bool) -> None:
    """Whoever has the files can go on with them under another key, and sign that it follows the service."""
    made = Forge.governed()
    pinned = x509.load_pem_x509_certificate(made.parties.service.encode())
    assert made.audit(service=pinned).ok
    taken_over(made)
    found = failed(made.audit(service=pinned, replay=Replay() if replayed else None))
    assert found == [
        (Check.IDENTITY, "", "", "the pinned service was replaced, and no members accepted its successor")
    ]


@pytest.mark.parametrize("table", GOVERNED)
@pytest.mark.parametrize("replayed", [True, False])
def test_a_recovery_changes_no_members(table: str, replayed: bool) -> None:
    """An entry that begins a recovery writes the service and its nodes, and nothing that members decide."""
    made = Forge.governed()
    write = made.write

    def planting(writes: Any, *rest: Any, **more: Any) -> Any:
        if tables.PREVIOUS_IDENTITY in writes:
            writes[table] = {b"x": b"[]"}
        return write(writes, *rest, **more)

    made.write = planting  # type: ignore[method-assign]
    recovered(made)
    found = {check for check, *_ in failed(made.audit(replay=Replay() if replayed else None))}
    assert Check.GOVERNANCE in found
    assert (Check.REPLAY in found) is replayed


@pytest.mark.parametrize("form", ["history", "acknowledgement"])
def test_the_older_form_of_requests_is_no_way_around_signatures(form: str) -> None:
    """It is not checked, so a ledger of COSE requests cannot go on in it, and change what it likes."""
    made = Forge.governed()
    if form == "history":
        made.write({"public:ccf.gov.history": {b"x": b"{}"}})
    else:
        made.write({tables.MEMBER_ACKS: {b"x": jcs.dumps({"signed_req": "x", "state_digest": "00"})}})
    made.write({tables.CONSTITUTION: {tables.ONLY: b'"mine"'}})
    found = [check for check, *_ in failed(made.audit())]
    assert found == [Check.GOVERNANCE] * 2


def test_a_receipt_of_a_signature_finds_what_was_dropped() -> None:
    """It names no entry, and the root that it proves must still be one that the ledger has."""
    made = Forge.governed()
    whole = len(made.chunks[-1])
    made.write({"public:app": {b"k": b"v"}})
    signed = made.batches[-1].signed.node
    assert signed is not None
    receipt = receipts.make_of_signature(signed, made.parties.node)
    pinned = x509.load_pem_x509_certificate(made.parties.service.encode())
    options = {"service": pinned, "expected": [Expected("receipt", receipt)]}
    assert made.audit(**options).ok
    del made.chunks[-1][whole:]
    ((check, _, _, message),) = failed(made.audit(**options))
    assert check is Check.RECEIPTS
    assert message.startswith("receipt: proves a signed root that ")


def _keys(raw: bytes) -> list[jcs.Writable]:
    found = jcs.loads(raw, "keys")
    assert isinstance(found, list)
    return list(found)  # type: ignore[arg-type]


def test_replay_alone_finds_planted_keys() -> None:
    """Without any other check."""
    consortium = opened()
    consortium.commit({tables.JWT_KEYS: {b"kid": KEY}})
    ((_, problems),) = consortium.replayed()
    assert len(problems) == 1
    assert "without a member's signed request" in problems[0]


@pytest.mark.parametrize(
    "table", [tables.MEASUREMENTS, tables.SNP_MEASUREMENTS, tables.CODE_IDS, tables.HOST_DATA]
)
@pytest.mark.parametrize("replayed", [True, False])
def test_which_code_may_join_is_the_members_decision(table: str, replayed: bool) -> None:
    """A service that admits other code by itself is found, also by a reader without an engine for scripts."""
    made = Forge.governed()
    made.write({table: {b"00": jcs.dumps("AllowedToJoin")}})
    found = {check for check, *_ in failed(made.audit(replay=Replay() if replayed else None))}
    assert Check.GOVERNANCE in found
    assert (Check.REPLAY in found) is replayed


def test_a_tables_name_that_reads_as_another_finding() -> None:
    """It stays on the line of its failure."""
    made = Forge.governed()
    made.write({"public:ccf.gov.x\nok    identity            the service is the pinned one": {b"k": b"v"}})
    (found,) = made.audit().failures
    assert "x?ok    identity " in str(found)
    assert "\n" not in str(found)
