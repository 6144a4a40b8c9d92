"""The service's life: acknowledgements, opening, shares for members, rekeys."""

from __future__ import annotations

from itertools import combinations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kluis.errors import UsageError
from kluis.formats.ccf import endorsement, tables
from kluis.formats.ccf.shares import PastSecret, RecoveryShares, Share
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.ledger import certificates, shares
from kluis.ledger.governance import acks, requests
from kluis.ledger.governance.documents import write_json
from kluis.ledger.governance.explain import explain
from kluis.ledger.governance.faults import (
    ConstitutionFailed,
    GovernanceError,
    NoSuchResource,
    OtherMember,
    StateDigestMismatch,
)
from kluis.ledger.governance.recovery import encrypted_share
from kluis.ledger.governance.requests import Kind
from tests.ledger.governance.consortium import DATE, NOW, Consortium, Party, key, opened

REKEY = {"name": "trigger_ledger_rekey"}


def recovery(consortium: Consortium) -> RecoveryShares:
    return RecoveryShares.parse(consortium.get(tables.RECOVERY_SHARES) or b"", "shares")


def own_share(consortium: Consortium, party: Party) -> Share:
    assert party.rsa is not None
    return shares.decrypt_share(recovery(consortium).shares[party.id], party.rsa, "share")


def recovered(consortium: Consortium, *parties: Party) -> bytes:
    """The ledger secret that some members recover together."""
    full = shares.combine([own_share(consortium, party) for party in parties])
    return shares.unwrap(recovery(consortium), full, 1, "secret").reveal()


def test_a_member_becomes_active() -> None:
    """By signing the digest that it was given; tables as CCF's."""
    consortium = Consortium(1)
    (member,) = consortium.members
    assert consortium.get(tables.MEMBERS, member.id) == b'{"status":"Accepted"}'
    assert consortium.get(tables.MEMBER_ACKS, member.id) == b'{"state_digest":""}'
    consortium.activate()

    assert consortium.get(tables.MEMBERS, member.id) == b'{"status":"Active"}'
    ack = consortium.json(tables.MEMBER_ACKS, member.id)
    assert list(ack) == ["cose_sign1_req", "state_digest"]
    assert acks.digest(consortium.store.begin(), member.id) == ack["state_digest"]
    with pytest.raises(NoSuchResource):
        acks.digest(consortium.store.begin(), "00" * 32)


def test_a_digest_that_was_not_given() -> None:
    """Neither another one, nor none, nor another member's."""
    consortium = Consortium(2)
    one, two = consortium.members

    def acknowledge(by: Party, of: Party, payload: object) -> None:
        request = requests.parse(by.sign(Kind.ACK, payload), Kind.ACK)
        consortium.run(lambda t: acks.acknowledge(t, request, of.id, consortium.effects))

    with pytest.raises(StateDigestMismatch):
        acknowledge(one, one, {"stateDigest": ""})
    raw = requests.parse(one.sign(Kind.STATE_DIGEST, {}), Kind.STATE_DIGEST)
    given = consortium.run(lambda t: acks.update(t, raw, one.id, consortium.root))
    for payload in ({"stateDigest": "00" * 32}, {"stateDigest": None}, {}, b"[]", b"x"):
        with pytest.raises(GovernanceError):
            acknowledge(one, one, payload)
    with pytest.raises(OtherMember):
        acknowledge(two, one, {"stateDigest": given})
    with pytest.raises(OtherMember):
        consortium.run(lambda t: acks.update(t, raw, two.id, consortium.root))
    acknowledge(one, one, {"stateDigest": given})


def test_opening() -> None:
    """Writes the status, shares that open the secret, and the key's endorsement of itself."""
    consortium = opened(3, threshold=2)
    one, two, three = consortium.members
    info = consortium.json(tables.SERVICE_INFO)
    assert info["status"] == "Open"
    assert info["previous_service_identity_version"] == 1
    assert consortium.get(tables.PAST_SECRETS) == b'{"next_version":1}'

    secret = bytes(range(32))
    for parties in ((one, two), (two, three), (one, three), (one, two, three)):
        assert recovered(consortium, *parties) == secret
    for alone in consortium.members:
        with pytest.raises(Exception, match="cannot be opened with these shares"):
            recovered(consortium, alone)
    link = endorsement.Endorsement.parse(consortium.get(tables.IDENTITY_ENDORSEMENT) or b"", "endorsement")
    cose.check(link.message, consortium.service_key.public_key(), "endorsement")
    assert link.start == TxId(2, 1)
    assert consortium.effects.closes_chunk
    assert consortium.replayed() == []


def test_opening_another_service() -> None:
    """A proposal that names another certificate is not applied."""
    consortium = Consortium(1)
    consortium.activate()
    other = certificates.service_certificate(key(33), DATE)
    proposal = consortium.propose(
        {"name": "transition_service_to_open", "args": {"next_service_identity": other}}
    )
    with pytest.raises(ConstitutionFailed, match="is not that of the service"):
        consortium.vote(proposal, consortium.members[0])


def test_too_few_recovery_members() -> None:
    """A service does not open before enough of them are active."""
    consortium = Consortium(3, threshold=3)
    consortium.activate(*consortium.members[:2])
    proposal = consortium.propose(
        {"name": "transition_service_to_open", "args": {"next_service_identity": consortium.certificate}}
    )
    consortium.vote(proposal, consortium.members[0])
    with pytest.raises(
        ConstitutionFailed, match=r"active recovery members \(2\) is less than the recovery threshold \(3\)"
    ):
        consortium.vote(proposal, consortium.members[1])


def test_rekey() -> None:
    """The new secret opens the one before, and the members' shares open the new one."""
    consortium = opened(3, threshold=2)
    opening = consortium.written.at(tables.PAST_SECRETS)
    first = consortium.secrets.latest
    consortium.accept(REKEY, created_at=NOW + 1)
    second = consortium.secrets.latest
    at = consortium.written.at(tables.PAST_SECRETS)

    assert second.reveal() != first.reveal()
    assert at is not None
    assert second.version == at + 1
    past = PastSecret.parse(consortium.get(tables.PAST_SECRETS) or b"", "past")
    assert (past.version, past.previous, past.next_version) == (1, opening, None)
    assert past.encrypted is not None
    assert second.unwrap(past.encrypted, 1, "past").reveal() == first.reveal()
    assert recovery(consortium).previous == opening
    assert recovered(consortium, *consortium.members[:2]) == second.reveal()

    consortium.accept(REKEY, created_at=NOW + 2)
    past = PastSecret.parse(consortium.get(tables.PAST_SECRETS) or b"", "past")
    assert (past.version, past.previous) == (second.version, at)
    assert recovered(consortium, *consortium.members[1:]) == consortium.secrets.latest.reveal()
    assert consortium.replayed() == []


def test_a_snapshot_is_refused_by_a_node_under_any_constitution() -> None:
    """No node takes one: an accepted proposal would promise a file that nobody writes."""
    source = """export const validate = () => ({valid: true, description: ""});
        export const resolve = () => "Accepted";
        export const apply = () => ccf.node.triggerSnapshot();"""
    consortium = Consortium(1, constitution=source)
    consortium.activate()
    with pytest.raises(ConstitutionFailed, match="nodes of this service take no snapshots"):
        consortium.propose({"name": "trigger_snapshot"})
    told = explain(consortium.store, '{"actions": []}')
    assert told.effects == ("a node of CCF takes a snapshot; a node of Kluis refuses the proposal",)


def test_a_threshold_that_changes() -> None:
    """New shares, of the same secret; no more than there are recovery members."""
    consortium = opened(3, threshold=1)
    before = recovery(consortium)
    consortium.accept(
        {"name": "set_recovery_threshold", "args": {"recovery_threshold": 3}}, created_at=NOW + 1
    )
    assert recovery(consortium).wrapped != before.wrapped
    assert recovery(consortium).previous is None
    assert recovered(consortium, *consortium.members) == bytes(range(32))
    for pair in combinations(consortium.members, 2):
        with pytest.raises(Exception, match="cannot be opened"):
            recovered(consortium, *pair)

    proposal = consortium.propose(
        {"name": "set_recovery_threshold", "args": {"recovery_threshold": 4}}, created_at=NOW + 2
    )
    consortium.vote(proposal, consortium.members[0])
    with pytest.raises(ConstitutionFailed, match="more than the 3 active recovery members"):
        consortium.vote(proposal, consortium.members[1])
    assert consortium.replayed() == []


def test_members_come_and_go() -> None:
    """Who becomes active gets a share; who is removed has none of the new secret."""
    consortium = opened(2, threshold=2)
    one, two = consortium.members
    three = Party(3)
    member = {
        "cert": three.certificate,
        "encryption_pub_key": three.encryption_pem,
        "member_data": {"b": 1, "a": 2},
    }
    consortium.accept({"name": "set_member", "args": member}, created_at=NOW + 1)
    assert consortium.get(tables.MEMBERS, three.id) == b'{"member_data":{"b":1,"a":2},"status":"Accepted"}'
    assert three.id not in recovery(consortium).shares
    consortium.members.append(three)
    consortium.activate(three)
    assert recovered(consortium, two, three) == bytes(range(32))

    consortium.accept({"name": "remove_member", "args": {"member_id": two.id}}, created_at=NOW + 2)
    consortium.members.remove(two)
    assert recovery(consortium).shares.keys() == {one.id, three.id}
    assert consortium.secrets.latest.reveal() != bytes(range(32))
    assert recovered(consortium, one, three) == consortium.secrets.latest.reveal()
    for table in (tables.MEMBERS, tables.MEMBER_CERTIFICATES, tables.MEMBER_KEYS, tables.MEMBER_ACKS):
        assert consortium.get(table, two.id) is None

    proposal = consortium.propose(
        {"name": "remove_member", "args": {"member_id": three.id}}, created_at=NOW + 3
    )
    consortium.vote(proposal, one)
    with pytest.raises(ConstitutionFailed, match="1 recovery members would be left"):
        consortium.vote(proposal, three)
    assert consortium.replayed() == []


def test_roles() -> None:
    """An owner's share opens the secret without others; who takes no part has none."""
    members = [
        Party(0),
        Party(1),
        Party(2, role="Owner"),
        Party(3, role="NonParticipant"),
        Party(4, encrypts=False),
    ]
    consortium = opened(members=members, threshold=2)
    assert recovery(consortium).shares.keys() == {each.id for each in members[:3]}
    assert own_share(consortium, members[2]).x == 0
    assert recovered(consortium, members[2]) == recovered(consortium, *members[:2]) == bytes(range(32))
    begun = consortium.store.begin()
    assert encrypted_share(begun, members[0].id) == recovery(consortium).shares[members[0].id]
    with pytest.raises(NoSuchResource):
        encrypted_share(begun, members[3].id)


def request_of(number: int, *, names: bool = True) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CCF Node")])
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("node.example")]), critical=False
        )
    return builder.sign(key(number), hashes.SHA384()).public_bytes(Encoding.PEM).decode()


def test_nodes() -> None:
    """A node that joins is trusted by proposal, and gets a certificate of the service's key."""
    consortium = opened(1)
    node = "cd" * 32
    pending = {"certificate_signing_request": request_of(60), "status": "Pending"}
    consortium.commit({tables.NODES: {node.encode(): write_json(pending)}})
    args = {"node_id": node, "valid_from": "2026-09-21T12:00:00Z", "validity_period_days": 30}
    consortium.accept({"name": "transition_node_to_trusted", "args": args}, created_at=NOW + 1)

    assert consortium.json(tables.NODES, node) == {**pending, "status": "Trusted", "ledger_secret_seqno": 1}
    issued = x509.load_pem_x509_certificate(consortium.get(tables.NODE_CERTIFICATES, node) or b"")
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(consortium.certificate.encode()))
    assert issued.public_key() == key(60).public_key()
    assert issued.not_valid_before_utc.isoformat() == "2026-09-21T12:00:00+00:00"
    assert (issued.not_valid_after_utc - issued.not_valid_before_utc).days == 30
    renewal = {"valid_from": "261001000000Z", "validity_period_days": 10}
    consortium.accept(
        {"name": "set_node_certificate_validity", "args": {"node_id": node, **renewal}}, created_at=NOW + 2
    )
    again = x509.load_pem_x509_certificate(consortium.get(tables.NODE_CERTIFICATES, node) or b"")
    assert again.not_valid_before_utc.isoformat() == "2026-10-01T00:00:00+00:00"
    consortium.accept({"name": "set_service_certificate_validity", "args": renewal}, created_at=NOW + 3)
    renewed = consortium.json(tables.SERVICE_INFO)["cert"]
    assert renewed == consortium.effects.renewed
    assert (
        x509.load_pem_x509_certificate(renewed.encode()).public_key() == consortium.service_key.public_key()
    )
    consortium.accept({"name": "remove_node", "args": {"node_id": node}}, created_at=NOW + 4)
    assert consortium.json(tables.NODES, node)["status"] == "Retired"
    assert consortium.replayed() == []


@pytest.mark.parametrize(
    ("request_", "args", "problem"),
    [
        ("none", {}, "signing request of the node is not valid"),
        (request_of(61, names=False), {}, "no subject alternative name"),
        (request_of(61), {"valid_from": "yesterday"}, "yesterday is no time"),
        (request_of(61), {"validity_period_days": 366}, "more than the 365 that are allowed"),
    ],
)
def test_a_node_that_gets_no_certificate(request_: str, args: dict[str, object], problem: str) -> None:
    """The proposal fails, with the reason."""
    consortium = opened(1)
    pending = {"certificate_signing_request": request_, "status": "Pending"}
    consortium.commit({tables.NODES: {b"cd" * 32: write_json(pending)}})
    wanted = {"node_id": "cd" * 32, "valid_from": "260921120000Z", **args}
    proposal = consortium.propose({"name": "transition_node_to_trusted", "args": wanted})
    with pytest.raises(ConstitutionFailed, match=problem):
        consortium.vote(proposal, consortium.members[0])


def test_shares_that_are_missing_are_found() -> None:
    """An auditor sees an opening without a member's share, or with one of another length."""
    consortium = opened(2)
    entry = consortium.entries[-1]
    shares_ = recovery(consortium)
    one, two = consortium.members
    for changed in ({one.id: shares_.shares[one.id]}, {**shares_.shares, two.id: b"short"}):
        value = RecoveryShares(wrapped=shares_.wrapped, shares=changed).encode()
        consortium.entries[-1].writes = {**entry.writes, tables.RECOVERY_SHARES: {tables.ONLY: value}}
        ((_, problems),) = consortium.replayed()
        assert all("recovery_shares" in problem for problem in problems)


def test_submitted_shares_are_no_table_of_a_new_service() -> None:
    """Nothing is there before a recovery."""
    assert opened(1).get(tables.SUBMITTED_SHARES) is None


def test_genesis_refuses() -> None:
    """No members, one twice, a threshold that is not reached, a role without a key, no constitution."""
    for wrong, problem in (
        ({"members": [Party(0), Party(0)]}, "is there twice"),
        ({"members": [Party(0, encrypts=False)]}, "want a recovery threshold of 1 to 0"),
        ({"members": [Party(0), Party(1, role="Owner")], "threshold": 2}, "of 1 to 1 participants, got 2"),
        ({"members": [Party(0, encrypts=False, role="Owner")]}, "with an encryption key only"),
        ({"members": [Party(0)], "constitution": "export const a = 1;"}, "does not export"),
    ):
        with pytest.raises(UsageError, match=problem):
            Consortium(**wrong)  # type: ignore[arg-type] # one of each
