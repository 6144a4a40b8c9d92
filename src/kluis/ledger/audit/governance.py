"""Checks of governance: whatever a table of governance changes, an active member signed for it.

1. A request is signed by a member who is active, with the certificate that the tables have.
2. A proposal's id is the digest of a root before it and of its signature; its text is what was signed.
3. A ballot is of a proposal there is, and is what was signed; votes are counted of ballots only.
4. An acknowledgement is of the state digest that was offered, and nothing else makes a member active.
5. Tables change with an accepted proposal, or by what the framework does itself: creation of a service,
   nodes, state digests, keys of token issuers that nodes refresh, and the steps of a recovery.
6. A request that is done again, with its ballots and its proposal's actions, writes what the entry writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from kluis.errors import FormatError, KluisError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes
from kluis.formats.ccf.service import ServiceInfo, ServiceStatus, parse_text
from kluis.formats.ccf.values import MAX_SIZE, read_json
from kluis.formats.encoding import b64
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members
from kluis.formats.ietf import cose
from kluis.formats.ietf.cose import Sign1
from kluis.hashes import sha256
from kluis.ledger.audit.report import Check, Findings
from kluis.ledger.audit.signing import Certificates
from kluis.ledger.audit.state import State
from kluis.ledger.audit.walk import Seen
from kluis.ledger.governance import documents
from kluis.ledger.merkle import Tree

MAX_LAG: Final = 4096
"""How many entries a proposal's root may be older than the proposal."""
_TYPE: Final = "ccf.gov.msg.type"
_CREATED: Final = "ccf.gov.msg.created_at"
_PROPOSAL: Final = "ccf.gov.msg.proposal_id"
_OLD: Final = "public:ccf.gov.history"
# What requests write of themselves; the rest of governance changes with an accepted proposal.
_REQUESTS: Final = frozenset(
    {tables.COSE_HISTORY, tables.RECENT_PROPOSALS, tables.PROPOSALS, tables.PROPOSALS_INFO}
)
# What nodes write without a member: they join and retire. Which code may join is their members' decision.
_BY_NODES: Final = "public:ccf.gov.nodes."
_CODE: Final = tuple(f"{_BY_NODES}{name}" for name in ("code_ids", "sgx.", "snp.", "virtual."))

_BY_RECOVERY: Final = frozenset({tables.SERVICE_INFO, tables.PREVIOUS_IDENTITY})


class Replay(Protocol):
    """Does members' requests again, as the constitution of the time has it.

    Attributes:
        count: how many it did.
        notes: what the reader of the last entry's check should know.
    """

    count: int
    notes: list[str]

    def entry(self, seqno: int, writes: Writes, roots: Iterable[bytes]) -> list[str]:
        """Do the request of an entry again, and compare; every entry is given, in order.

        Args:
            seqno: of the entry.
            writes: its public writes.
            roots: of the tree: over all entries before this one, then over one less, and so on.

        Returns:
            What differs, a sentence each.
        """
        ...

    def skip(self, seqno: int, writes: Writes) -> None:
        """Go on to the next entry without a check."""
        ...


class Governance:
    """Judges each entry that changes a table of governance.

    Args:
        findings: takes failures.
        tree: of the entries before.
        certificates: that were loaded.
        replay: applies proposals again; None: that check is not made.
    """

    def __init__(
        self, findings: Findings, tree: Tree, certificates: Certificates, replay: Replay | None
    ) -> None:
        self._findings = findings
        self._tree = tree
        self._certificates = certificates
        self._replay = replay
        self.requests = 0
        self.old = False

    def judge(self, seen: Seen, state: State) -> None:
        """Judge an entry that is not yet part of ``state``."""
        writes = seen.domain.writes
        if self._replay is not None and not (state.table(tables.MEMBERS) or seen.txid.seqno == 1):
            self._replay.skip(seen.txid.seqno, writes)  # nobody governs it: said where it changes
        elif self._replay is not None:
            for problem in self._replay.entry(seen.txid.seqno, writes, self._roots()):
                self._findings.fail(Check.REPLAY, problem)
            for note in self._replay.notes:
                self._findings.note(Check.REPLAY, note, here=True)
        changed = [name for name in writes if name.startswith(tables.GOVERNANCE)]
        if not changed:
            return
        if _creates(seen):
            if seen.txid.seqno > 1:
                self._check_recovered(changed)
            return
        if _OLD in writes:
            self._older()
            return
        accepted = None
        signed = {key: raw for key, raw in writes.get(tables.COSE_HISTORY, {}).items() if raw is not None}
        if len(signed) > 1:
            self._fail("holds the requests of more than one member")
            return
        for member, raw in signed.items():
            accepted = self._request(member, raw, seen, state)
            self.requests += 1
        if not signed and (proposals := writes.get(tables.PROPOSALS)) and any(proposals.values()):
            self._fail("holds a proposal that no member signed")
        acks = writes.get(tables.MEMBER_ACKS, {})
        active = self._acknowledgements(acks, state)
        for name in changed:
            self._change(name, writes[name], bool(signed), accepted is not None, active, state)

    def _older(self) -> None:
        """A request in the older form, which is not checked: after one in COSE there is none."""
        if self.requests:
            self._fail("holds a request in the older form, signed over HTTP, after requests in COSE")
        else:
            self.old = True

    def _check_recovered(self, changed: Iterable[str]) -> None:
        for name in changed:
            if name not in _BY_RECOVERY and not name.startswith(_BY_NODES):
                self._fail(f"table {name} changes with a recovery, which no member signed")

    def _request(self, member: bytes, raw: bytes, seen: Seen, state: State) -> str | None:
        """Judge a signed request; gives the id of the proposal that it lets be accepted."""
        request = b64.decode(parse_text(raw, "request"), "request")
        message = self._open_signed(member, request, state, ("proposal", "ballot", "withdrawal"))
        if message is None:
            return None
        kind = str(message.headers.get(_TYPE))
        infos = seen.domain.writes.get(tables.PROPOSALS_INFO, {})
        if kind == "proposal":
            proposal = self._proposal(member, message, seen)
        else:
            named = message.headers.get(_PROPOSAL)
            proposal = named if isinstance(named, str) else ""
            if proposal.encode() not in state.table(tables.PROPOSALS):
                self._fail(f"a {kind} is of a proposal that is unknown: {proposal[:16]!a}")
                return None
        info = infos.get(proposal.encode())
        if info is None:
            self._fail(f"a {kind} changes another proposal than {proposal[:16]}")
            return None
        after = Members(read_json(info, "proposal"), "proposal")
        if kind == "ballot":
            self._ballot(member, message, after)
        ballots = after.object("ballots").entries(most=1024)
        votes = after.object("final_votes").entries(most=1024) if "final_votes" in after else {}
        if not votes.keys() <= ballots.keys():
            self._fail(f"proposal {proposal[:16]} counts votes without ballots")
        return proposal if after.text("state") == "Accepted" else None

    def _open_signed(
        self, member: bytes, request: bytes, state: State, kinds: tuple[str, ...]
    ) -> Sign1 | None:
        """A request whose signature holds; None if it does not.  Step 1."""
        name = member.decode("ascii", "replace")
        message = Sign1.parse(request, "request", max_size=MAX_SIZE)
        if message.headers.get(cose.KEY_ID) != member or message.headers.get(_TYPE) not in kinds:
            self._fail(f"a request of member {name[:16]} names another member, or is of another type")
            return None
        if type(message.headers.get(_CREATED)) is not int:
            self._fail(f"a request of member {name[:16]} does not state when it was made")
        pem = state.table(tables.MEMBER_CERTIFICATES).get(member)
        info = state.table(tables.MEMBERS).get(member)
        if pem is None or info is None:
            self._fail(f"member {name[:16]} is unknown")
            return None
        status = Members(read_json(info, "member"), "member").text("status")
        if status != "Active" and kinds != ("ack",):
            self._fail(f"member {name[:16]}: want Active, got {status}")
        try:
            key = self._certificates.load(pem.decode("utf-8", "replace"))[1]
            cose.check(message, key, "request")
        except KluisError as error:
            self._fail(f"member {name[:16]}: {error.message}")
            return None
        return message

    def _proposal(self, member: bytes, message: Sign1, seen: Seen) -> str:  # 2
        writes, digest = seen.domain.writes, sha256(message.signature)
        recent = [raw for raw in writes.get(tables.RECENT_PROPOSALS, {}).items() if raw[1] is not None]
        created = message.headers.get(_CREATED)
        listed = f"{created if isinstance(created, int) else 0:010}:{digest.hex()}".encode()
        if recent and recent[0][0] != listed:
            self._fail("a proposal is listed under another time or signature")
        texts = {key: raw for key, raw in writes.get(tables.PROPOSALS, {}).items() if raw is not None}
        if len(texts) != 1:
            self._fail(f"want one proposal, got {len(texts)}")
            return ""
        ((name, text),) = texts.items()
        proposal = name.decode("ascii", "replace")
        if text != message.payload:
            self._fail(f"proposal {proposal[:16]}: want the text that was signed, got another")
        size = self._tree.size
        for at in range(size, max(size - MAX_LAG, 1), -1):
            if sha256(self._tree.root(at) + digest).hex() == proposal:
                break
        else:
            self._fail(f"proposal {proposal[:16]}: is the digest of no root before it and its signature")
        info = writes.get(tables.PROPOSALS_INFO, {}).get(name)
        if info is not None:
            after = Members(read_json(info, "proposal"), "proposal")
            if after.text("proposer_id").encode() != member:
                self._fail(f"proposal {proposal[:16]}: names another proposer")
        return proposal

    def _ballot(self, member: bytes, message: Sign1, after: Members) -> None:  # 3
        ballots = after.object("ballots").entries(most=1024)
        if ballots.get(member.decode("ascii", "replace")) != _ballot_of(message.payload):
            self._fail("want the ballot that was signed, got another")

    def _acknowledgements(self, acks: Mapping[bytes, bytes | None], state: State) -> set[bytes]:  # 4
        done: set[bytes] = set()
        for member, raw in acks.items():
            if raw is None:
                continue
            ack = Members(read_json(raw, "acknowledgement"), "acknowledgement")
            if "cose_sign1_req" not in ack:
                if "signed_req" in ack:
                    self._older()
                continue
            request = b64.decode(ack.text("cose_sign1_req", limit=MAX_SIZE), "acknowledgement")
            message = self._open_signed(member, request, state, ("ack",))
            self.requests += 1
            if message is None:
                continue
            offered = state.table(tables.MEMBER_ACKS).get(member)
            want = None if offered is None else Members(read_json(offered, "ack"), "ack").text("state_digest")
            got = Members(read_json(message.payload, "ack"), "ack")
            signed = next((got.text(name) for name in ("stateDigest", "state_digest") if name in got), None)
            if signed is None or signed != want or ack.text("state_digest") != want:
                self._fail(f"member {member[:16].decode('ascii', 'replace')}: acknowledges another state")
            done.add(member)
        return done

    def _change(
        self,
        name: str,
        changes: Mapping[bytes, bytes | None],
        signed: bool,
        accepted: bool,
        active: set[bytes],
        state: State,
    ) -> None:  # 5
        if accepted or self.old or name in (tables.MEMBER_ACKS, tables.NODE_CERTIFICATES):
            return
        if name in _REQUESTS:
            if not signed and any(value is not None for value in changes.values()):
                self._fail(f"table {name} changes, and no member signed for it")
        elif name == tables.MEMBERS:
            if not changes.keys() <= active:
                self._fail("a member changes without acknowledgement or proposal")
        elif name == tables.SERVICE_INFO:
            self._step(changes, state)
        elif name == tables.JWT_KEYS:  # which nodes fetch of some issuers
            before, issuers = state.table(name), state.table(tables.JWT_ISSUERS)
            for issuer in documents.unsigned_keys(changes, before.get, issuers.get):
                self._fail(f"keys of issuer {issuer[:100]!a} change without an accepted proposal")
        elif not name.startswith(_BY_NODES) or name.startswith(_CODE):
            self._fail(f"table {name} changes without an accepted proposal")

    def _step(self, changes: Mapping[bytes, bytes | None], state: State) -> None:
        """A step of the service's life without a proposal: the end of a recovery, by shares."""
        raw, before = changes.get(tables.ONLY), state.only(tables.SERVICE_INFO)
        if raw is None or before is None:
            self._fail("the service changes without an accepted proposal")
        elif ServiceInfo.parse(before, "service").status is not ServiceStatus.WAITING:
            if state.table(tables.MEMBERS):
                self._fail("the service changes without an accepted proposal")
            else:
                self._findings.note(
                    Check.GOVERNANCE, "the service changes, and has no members who govern it", here=True
                )

    def _roots(self) -> Iterator[bytes]:  # 6
        size = self._tree.size
        return (self._tree.root(at) for at in range(size, max(size - MAX_LAG, 0), -1))

    @property
    def replayed(self) -> int:
        """How many requests were done again."""
        return 0 if self._replay is None else self._replay.count

    def _fail(self, message: str) -> None:
        self._findings.fail(Check.GOVERNANCE, message)


def _creates(seen: Seen) -> bool:
    """Whether an entry creates a service, or its next identity, and so writes what it must."""
    raw = seen.domain.writes.get(tables.SERVICE_INFO, {}).get(tables.ONLY)
    if raw is None:
        return False
    info = ServiceInfo.parse(raw, "service")
    return info.created == seen.txid or seen.txid.seqno == 1


def _ballot_of(payload: bytes) -> Json:
    try:
        return Members(read_json(payload, "ballot"), "ballot").text("ballot")
    except FormatError:
        return payload.decode("utf-8", "replace")
