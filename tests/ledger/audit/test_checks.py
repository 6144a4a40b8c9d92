"""One forged ledger for each check: its signatures hold, and the one thing that it does wrong is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from kluis.formats.ccf import tables
from kluis.formats.ccf.shares import PastSecret, RecoveryShares
from kluis.formats.encoding import b64, jcs
from kluis.formats.ietf import cose
from kluis.hashes import sha256
from kluis.ledger import certificates, claims
from kluis.ledger.audit import Check, Level
from kluis.ledger.sample.parties import Parties
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.signer import Signer, key_id
from tests.ledger import making
from tests.ledger.audit.forge import NOW, SECONDS, Forge, actions, failed, parties

ONLY = tables.ONLY
SERVICE, NODES, CERTIFICATES = tables.SERVICE_INFO, tables.NODES, tables.NODE_CERTIFICATES


def node() -> bytes:
    """The node's id, as a key."""
    return parties().node_id.encode()


def member() -> bytes:
    """The member's id, as a key."""
    return parties().member_id.encode()


def changed(raw: bytes, **change: object) -> bytes:
    """A JSON value with other members; None takes one away."""
    value = {**json.loads(raw), **change}
    return jcs.dumps({name: each for name, each in value.items() if each is not None})


def test_good() -> None:
    """A ledger that does nothing wrong passes every check."""
    made = Forge.governed()
    made.write({"public:app": {b"k": b"v"}, "private": {b"k": b"v"}})
    report = made.audit(secrets=made.secrets)
    assert failed(report) == []
    assert report.ok
    assert {each.check for each in report.findings} >= set(Check) - {
        Check.REPLAY,
        Check.RECEIPTS,
        Check.COPIES,
    }
    report.require()


Break = Callable[[Forge], object]


def request(made: Forge, kind: str, body: bytes, **headers: object) -> bytes:
    """A request that the member signs."""
    named = {
        cose.KEY_ID: member(), "ccf.gov.msg.type": kind, "ccf.gov.msg.created_at": SECONDS,
        **{f"ccf.gov.msg.{name}": value for name, value in headers.items()},
    }  # fmt: skip
    return cose.sign1(body, made.parties.member_key, {k: v for k, v in named.items() if v is not None})


def proposed(made: Forge, **change: dict[bytes, bytes | None]) -> None:
    """A proposal, with other writes."""
    _, writes = made.governance.propose(made.sequencer.tree.root(), actions())
    names = {
        "history": tables.COSE_HISTORY, "recent": tables.RECENT_PROPOSALS, "texts": tables.PROPOSALS,
        "infos": tables.PROPOSALS_INFO,
    }  # fmt: skip
    for name, table in change.items():
        writes[names[name]] = table
    made.write(writes)


def accepted(made: Forge, writes: dict[str, dict[bytes, bytes | None]], ballot: bytes | None = None) -> None:
    """A proposal that is accepted, and changes this."""
    proposal, first = made.governance.propose(made.sequencer.tree.root(), actions())
    made.write(first)
    second = made.governance.accept(proposal, writes)
    if ballot is not None:
        second[tables.COSE_HISTORY] = {member(): jcs.dumps(b64.encode(ballot))}
    made.write(second)


def by_another_node(made: Forge, status: str = "Trusted", certificate: str | None = None) -> None:
    """Another node joins, and signs its own joining."""
    key = making.key(11)
    own = certificates.node_certificate(key.public_key(), made.parties.service_key, made.parties.service, NOW)
    other: Parties = dataclasses.replace(made.parties, node_key=key, node=own)
    made.sequencer.signer = Signer(key, own, made.parties.service_key)
    name = other.node_id.encode()
    info = changed(other.node_info(), status=status)
    made.write({NODES: {name: info}, CERTIFICATES: {name: (certificate or own).encode()}})


def foreign_signer(made: Forge) -> None:
    """Another service's key signs roots."""
    made.sequencer.signer = Signer(made.parties.node_key, made.parties.node, making.key(12))
    made.write({"a": {b"k": b"v"}})


def recovered(made: Forge, **change: bytes | None) -> None:
    """A recovery: another service key, two views later."""
    key, root = making.key(13), made.batches[-1].root
    service = certificates.service_certificate(key, NOW)
    certificate = certificates.node_certificate(made.parties.node_key.public_key(), key, service, NOW)
    made.signer = Signer(made.parties.node_key, certificate, key)
    made.begin_view(4)
    created = made.sequencer.last.seqno + 1
    info = {
        "cert": service, "current_service_create_txid": f"4.{created}", "recovery_count": 1,
        "status": "Recovering", "previous_service_identity_version": 9,
    }  # fmt: skip
    writes: dict[str, dict[bytes, bytes | None]] = {
        SERVICE: {ONLY: jcs.dumps(info)},
        NODES: {node(): made.parties.node_info()},
        CERTIFICATES: {node(): certificate.encode()},
        tables.PREVIOUS_IDENTITY: {ONLY: change.get("identity") or jcs.dumps(made.parties.service)},
        tables.LAST_SIGNED_ROOT: {ONLY: change.get("root") or jcs.dumps(root.hex())},
    }
    made.write(writes, new_chunk=True)


def test_recovered() -> None:
    """A recovery that names the state before it passes."""
    made = Forge.governed()
    recovered(made)
    report = made.audit()
    assert failed(report) == []
    assert (report.verified, len(made.files())) == (made.sequencer.last, 2)


SHARES = RecoveryShares(wrapped=bytes(60), shares={}).encode()
BREAKS: dict[str, tuple[Break, Check, str]] = {
    "another service's key": (foreign_signer, Check.SERVICE_SIGNATURES, "want a signature by key "),
    "a node that is pending": (
        lambda made: by_another_node(made, "Pending"), Check.NODE_SIGNATURES, "want Trusted, got Pending",
    ),
    "a node that is retired": (
        lambda made: (
            made.write({NODES: {node(): changed(made.parties.node_info(), status="Retired")}}),
        ),
        Check.NODE_SIGNATURES, "want Trusted, got Retired",
    ),
    "a node that is gone": (
        lambda made: made.write({NODES: {node(): None}}), Check.NODE_SIGNATURES, " is unknown",
    ),
    "another certificate of the node": (
        lambda made: made.write({CERTIFICATES: {node(): certificates.node_certificate(
            making.key(9).public_key(), made.parties.service_key, made.parties.service, NOW).encode()}}),
        Check.CERTIFICATES, "has the key of ",
    ),
    "a certificate by another service": (
        lambda made: made.write({CERTIFICATES: {node(): certificates.node_certificate(
            made.parties.node_key.public_key(), making.key(8),
            certificates.service_certificate(making.key(8), NOW), NOW).encode()}}),
        Check.CERTIFICATES, "is not signed by the service",
    ),
    "another issuer's name": (
        lambda made: made.write({CERTIFICATES: {node(): certificates.node_certificate(
            made.parties.node_key.public_key(), made.parties.service_key,
            certificates.service_certificate(making.key(8), NOW, name="Another"), NOW).encode()}}),
        Check.CERTIFICATES, "names another issuer",
    ),
    "a quote of another key": (
        lambda made: made.write({NODES: {node(): changed(made.parties.node_info(), quote_info={
            "format": "Insecure_Virtual", "endorsements": "", "quote": b64.encode(
                jcs.dumps({"host_data": sha256(b"").hex(), "report_data": b64.encode(bytes(32)),
                           "measurement": "Insecure hard-coded virtual measurement v1"}))})}}),
        Check.QUOTES, "its quote is of another key",
    ),
    "a measurement that is not allowed": (
        lambda made: made.write({NODES: {node(): changed(made.parties.node_info(), quote_info={
            "format": "Insecure_Virtual", "endorsements": "", "quote": b64.encode(
                jcs.dumps({"host_data": sha256(b"").hex(), "measurement": "x",
                           "report_data": b64.encode(bytes.fromhex(made.parties.node_id))}))})}}),
        Check.QUOTES, "its quote has a measurement that is not allowed",
    ),
    "a status out of order": (
        lambda made: made.write({SERVICE: {ONLY: made.parties.service_info("WaitingForRecoveryShares", 9)}}),
        Check.SERVICE, "status WaitingForRecoveryShares does not follow Open",
    ),
    "a service that begins again": (
        lambda made: made.write({SERVICE: {ONLY: made.parties.service_info("Opening", 9)}}),
        Check.SERVICE, "a service that was there before begins again",
    ),
    "another entry before": (
        lambda made: made.write({SERVICE: {ONLY: made.parties.service_info("Open", 3)}}),
        Check.SERVICE, "want 9 as the entry before, got 3",
    ),
    "another creation": (
        lambda made: made.write({SERVICE: {ONLY: changed(
            made.parties.service_info("Open", 9), current_service_create_txid="2.3")}}),
        Check.SERVICE, "want creation at 2.1, got 2.3",
    ),
    "a view that begins with a write": (
        lambda made: (made.begin_view(3), made.write({"a": {b"k": b"v"}})),
        Check.VIEWS, "view 3 begins with neither a signature, a node nor a recovery",
    ),
    "another identity before a recovery": (
        lambda made: recovered(made, identity=jcs.dumps("x")),
        Check.RECOVERY, "names another certificate than the one before it",
    ),
    "another root before a recovery": (
        lambda made: recovered(made, root=jcs.dumps("00")), Check.RECOVERY, "want last signed root ",
    ),
    "a change that nobody signed": (
        lambda made: made.write({"public:ccf.gov.users.certs": {b"x": b"y"}}),
        Check.GOVERNANCE, "table public:ccf.gov.users.certs changes without an accepted proposal",
    ),
    "a constitution that nobody signed": (
        lambda made: made.write({tables.CONSTITUTION: {ONLY: b'""'}}),
        Check.GOVERNANCE, "table public:ccf.gov.constitution changes without an accepted proposal",
    ),
    "a change with a proposal that is open": (
        lambda made: made.write({
            **made.governance.propose(made.sequencer.tree.root(), actions())[1],
            "public:ccf.gov.users.certs": {b"x": b"y"}}),
        Check.GOVERNANCE, "table public:ccf.gov.users.certs changes without an accepted proposal",
    ),
    "a member without acknowledgement": (
        lambda made: made.write({tables.MEMBERS: {b"x": b'{"status":"Active"}'}}),
        Check.GOVERNANCE, "a member changes without acknowledgement or proposal",
    ),
    "a proposal that nobody signed": (
        lambda made: made.write({tables.PROPOSALS: {b"x": b"{}"}}),
        Check.GOVERNANCE, "holds a proposal that no member signed",
    ),
    "another text": (
        lambda made: proposed(made, texts={b"x": b"{}"}),
        Check.GOVERNANCE, "want the text that was signed, got another",
    ),
    "another time": (
        lambda made: proposed(made, recent={b"0000000001:00": b'""'}),
        Check.GOVERNANCE, "a proposal is listed under another time or signature",
    ),
    "another id": (
        lambda made: made.write(made.governance.propose(b"x" * 32, actions())[1]),
        Check.GOVERNANCE, "is the digest of no root before it and its signature",
    ),
    "a request of another member": (
        lambda made: proposed(made, history={b"x": jcs.dumps(b64.encode(request(made, "proposal", b"{}")))}),
        Check.GOVERNANCE, "a request of member x names another member, or is of another type",
    ),
    "a request of no type": (
        lambda made: proposed(made, history={member(): jcs.dumps(b64.encode(request(made, "x", b"{}")))}),
        Check.GOVERNANCE, "names another member, or is of another type",
    ),
    "a request that another key signed": (
        lambda made: proposed(made, history={member(): jcs.dumps(b64.encode(cose.sign1(
            b"{}", making.key(4), {cose.KEY_ID: member(), "ccf.gov.msg.type": "proposal",
                                   "ccf.gov.msg.created_at": 1})))}),
        Check.GOVERNANCE, "is not signed by the key it should be",
    ),
    "requests of two members": (
        lambda made: proposed(made, history={b"x": b'""', b"y": b'""'}),
        Check.GOVERNANCE, "holds the requests of more than one member",
    ),
    "a ballot of no proposal": (
        lambda made: accepted(made, {}, request(made, "ballot", b"{}", proposal_id="00")),
        Check.GOVERNANCE, "a ballot is of a proposal that is unknown: '00'",
    ),
    "another acknowledgement": (
        lambda made: made.write({tables.MEMBER_ACKS: {member(): jcs.dumps({
            "state_digest": "00", "cose_sign1_req": b64.encode(
                request(made, "ack", jcs.dumps({"stateDigest": "00"})))})}}),
        Check.GOVERNANCE, "acknowledges another state",
    ),
    "no shares": (
        lambda made: made.write({tables.RECOVERY_SHARES: {ONLY: SHARES}}),
        Check.SHARES, "want shares for 1 members, got 0 for others",
    ),
    "short shares": (
        lambda made: made.write({tables.RECOVERY_SHARES: {ONLY: RecoveryShares(
            wrapped=bytes(60), shares={made.parties.member_id: b"x"}).encode()}}),
        Check.SHARES, "want shares as long as the members' keys, got others",
    ),
    "a secret of another version": (
        lambda made: made.write({tables.PAST_SECRETS: {ONLY: PastSecret(
            encrypted=bytes(60), version=7, previous=9).encode()}}),
        Check.SECRETS, "want a past secret of version 1, got 7",
    ),
    "a secret from nowhere": (
        lambda made: made.write({tables.PAST_SECRETS: {ONLY: PastSecret(
            encrypted=bytes(60), version=1, previous=4).encode()}}),
        Check.SECRETS, "names entry 4, which holds no secret",
    ),
    "a secret of later": (
        lambda made: made.write({tables.PAST_SECRETS: {ONLY: PastSecret(
            next_version=99, encrypted=bytes(60), version=1, previous=9).encode()}}),
        Check.SECRETS, "want a next version up to 12, got 99",
    ),
    "a snapshot without claim": (
        lambda made: made.write({tables.SNAPSHOT_EVIDENCE: {ONLY: jcs.dumps(
            {"hash": sha256(b"x").hex(), "version": 2})}}),
        Check.CLAIMS, f"want claims digest {sha256(b'x').hex()}, got {'0' * 64}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_broken(name: str) -> None:
    """A forged ledger fails in its check, at its entry."""
    work, check, words = BREAKS[name]
    made = Forge.governed()
    before = made.sequencer.last.seqno
    work(made)
    found = [each for each in failed(made.audit()) if each[0] is check and words in each[3]]
    assert found, failed(made.audit())
    assert found[0][1].startswith("ledger_")
    assert int(found[0][2].split(".")[1]) > before


def test_counted_without_ballots() -> None:
    """Votes without ballots are not counted."""
    made = Forge.governed()
    proposal, writes = made.governance.propose(made.sequencer.tree.root(), actions())
    made.write(writes)
    ballot = made.governance.accept(proposal, {})
    info = changed(ballot[tables.PROPOSALS_INFO][proposal.encode()] or b"", ballots={})
    ballot[tables.PROPOSALS_INFO][proposal.encode()] = info
    made.write(ballot)
    said = [each[3] for each in failed(made.audit())]
    assert said == [
        "want the ballot that was signed, got another",
        f"proposal {proposal[:16]} counts votes without ballots",
    ]


@pytest.mark.parametrize("table", [claims.PRIVATE_ENTRIES, claims.PUBLIC_ENTRIES])
def test_contents_that_a_user_wrote(table: str) -> None:
    """Their digest is what their entry claims: in a public ledger, and in a private one with the secrets."""
    row = jcs.dumps({"contents": "x", "secretKey": b64.encode(bytes(32))})
    digest = claims.claims_digest([(claims.LEDGER_ENTRY, claims.entry_digest("c", "x", bytes(32)))])
    made = Forge.governed()
    made.write({table: {b"c": row, b"of another application": b"its own", b"gone": None}}, digest)
    report = made.audit(secrets=made.secrets)
    assert failed(report) == []
    assert "0 snapshot digests, 1 digest of users' contents" in {each.message for each in report.findings}
    made.write({table: {b"c": row}}, sha256(b"others"))
    (found,) = failed(made.audit(secrets=made.secrets))
    last = f"2.{made.sequencer.last.seqno - 1}"
    want = f"want claims digest {digest.hex()} of its contents, got {sha256(b'others').hex()}"
    assert (found[0], found[2], found[3]) == (Check.CLAIMS, last, want)
    assert made.audit().ok is (table == claims.PRIVATE_ENTRIES)


def test_a_threshold_above_the_members() -> None:
    """A threshold that no members can reach would lock the ledger away."""
    config = jcs.dumps({"recovery_threshold": 2})
    made = Forge(genesis={tables.SERVICE_CONFIG: {ONLY: config}})
    made.write(made.governance.digest(made.root))
    made.write(made.governance.acknowledge(made.root))
    proposal, writes = made.governance.propose(made.sequencer.tree.root(), actions())
    made.write(writes)
    made.write(made.governance.accept(proposal, made.governance.open_service(made.secrets.latest)))
    assert failed(made.audit()) == [
        (Check.SHARES, "ledger_1-10.committed", "2.9", "want a threshold up to 1, got 2")
    ]


def test_another_secret() -> None:
    """With a secret that is not the ledger's, no entry opens."""
    made = Forge.governed()
    report = made.audit(secrets=Secrets([LedgerSecret(b"x" * 32, 1)]))
    assert len(report.failures) == made.sequencer.last.seqno
    assert {each.check for each in report.failures} == {Check.PRIVATE}


def test_what_full_leaves_out() -> None:
    """What CCF's tools do not check is not checked at their level."""
    made = Forge.governed()
    made.write({tables.CONSTITUTION: {ONLY: b'""'}})
    assert made.audit(level=Level.FULL).ok
    assert not made.audit(level=Level.ALL).ok
    foreign_signer(made)
    assert not made.audit(level=Level.FULL).ok
    assert key_id(made.parties.service_key.public_key()) in str(made.audit(level=Level.FULL).failures[0])
