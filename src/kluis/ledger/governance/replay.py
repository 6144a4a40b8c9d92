"""Governance done again: a signed request, its ballots and ``apply()`` must give an entry's writes.

What nobody can give again, because it is random or needs the service's key (shares, issued certificates), is
taken from the entry and held against what it must be.

Spec: CCF, "Auditing"; the replay is ours.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

from kluis.errors import FormatError, KluisError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes
from kluis.formats.ccf.values import read_json
from kluis.formats.encoding import b64
from kluis.formats.ietf import cose
from kluis.hashes import sha256
from kluis.ledger.governance import acks, documents, proposals, requests
from kluis.ledger.governance.constitution import OF_BALLOT, OF_CONSTITUTION, Failure, Rules
from kluis.ledger.governance.documents import read_object, write_json
from kluis.ledger.governance.recorded import RecordedEffects, problem_of_shares
from kluis.ledger.governance.requests import Kind, Request
from kluis.ledger.governance.service import LastWrites
from kluis.ledger.store import Store, Transaction

# LastWrites by a node without a request of a member: joins, renewals, recovery, refreshed keys of issuers.
BY_NODES: Final = frozenset(
    {
        tables.NODES,
        tables.NODE_CERTIFICATES,
        tables.SERVICE_INFO,
        tables.PREVIOUS_IDENTITY,
        tables.JWT_KEYS,
    }
)
# What a compiler made, and what is encrypted for nodes: neither follows from the tables.
NOT_COMPARED: Final = frozenset(
    {
        tables.BYTECODE,
        tables.BYTECODE_VERSION,
        "public:ccf.internal.encrypted_ledger_secrets",
    }
)
# An auditor's machine may be slower than the service's, but memory and stack are the same.
AUDIT: Final = Rules(
    constitution=dataclasses.replace(OF_CONSTITUTION, seconds=60.0),
    ballot=dataclasses.replace(OF_BALLOT, seconds=5.0),
)
MOST_DOUBTED: Final = 6
"""Ballots of one proposal whose votes are tried, each as three."""
_KEPT: Final = "public:ccf."
_NODES: Final = "public:ccf.gov.nodes."
# Of tables that an entry may write for other reasons than governance.
_OTHERS: Final = (
    tables.SIGNATURES,
    tables.COSE_SIGNATURES,
    tables.TREE,
    tables.SNAPSHOT_EVIDENCE,
    tables.SUBMITTED_SHARES,
    tables.LAST_SIGNED_ROOT,
)


class Replay:
    """Replays a ledger's governance, entry by entry, from the first one on.

    Args:
        rules: limits of scripts; None: more time than a service gives them.

    Attributes:
        count: how many requests of members were done again.
        notes: what the reader of the last entry's check should know.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or AUDIT
        self._written = LastWrites()
        self._store = Store()
        self.count = 0
        self.notes: list[str] = []

    def entry(self, seqno: int, writes: Writes, roots: Iterable[bytes]) -> list[str]:
        """Check one entry, and go on to the next.

        Args:
            seqno: of the entry.
            writes: its public writes.
            roots: of the tree, 32 bytes each: over all entries before this one, then over one less, and so
                on. A proposal's id is computed from one of them.

        Returns:
            what is wrong with it, a sentence each; empty if nothing is.
        """
        self.notes = []
        try:
            if not any(name.startswith(tables.GOVERNANCE) for name in writes):
                return []
            return list(self._check(self._store.begin(), writes, roots))
        except KluisError as error:
            return [f"governance: {error.message}"]
        finally:
            self.skip(seqno, writes)

    def skip(self, seqno: int, writes: Writes) -> None:
        """Go on to the next entry without a check."""
        tables_kept = {name: rows for name, rows in writes.items() if name.startswith(_KEPT)}
        if tables_kept:
            self._store.apply(seqno, tables_kept)
            self._store.compact(seqno)
            self._written.note(seqno, tables_kept)

    def _check(self, transaction: Transaction, writes: Writes, roots: Iterable[bytes]) -> Iterator[str]:
        governed = {name for name in writes if name.startswith(tables.GOVERNANCE)}
        if not governed or transaction.get(tables.SERVICE_INFO, tables.ONLY) is None:
            return
        if tables.COSE_HISTORY in writes:
            self.count += 1
            yield from self._replay_request(writes, roots)
        elif tables.MEMBER_ACKS in writes:
            yield from self._check_acknowledgement(transaction, writes)
        elif _creates(writes):
            for name in sorted(governed):
                if name == tables.JWT_KEYS or (name not in BY_NODES and not name.startswith(_NODES)):
                    yield f"table {name}: is changed by a recovery, which has no member's signed request"
        else:
            for name in sorted(governed - BY_NODES):
                yield f"table {name}: is changed without a member's signed request"
            for issuer in documents.unsigned_keys(
                writes.get(tables.JWT_KEYS, {}),
                functools.partial(transaction.get, tables.JWT_KEYS),
                functools.partial(transaction.get, tables.JWT_ISSUERS),
            ):
                yield (
                    f"table {tables.JWT_KEYS}: a key of {issuer[:100]!a}, which nodes do not refresh, is"
                    " changed without a member's signed request"
                )
            if tables.SERVICE_INFO in writes and tables.SUBMITTED_SHARES not in writes:
                yield f"table {tables.SERVICE_INFO}: is changed without a member's signed request"

    def _replay_request(self, writes: Writes, roots: Iterable[bytes]) -> Iterator[str]:
        history = writes[tables.COSE_HISTORY]
        if len(history) != 1:
            yield f"table {tables.COSE_HISTORY}: want one request in an entry, got {len(history)}"
            return
        ((key, value),) = history.items()
        request = _request(value)
        if request.claimed.encode() != key:
            yield f"table {tables.COSE_HISTORY}: holds a request of {request.claimed} as another member's"
        root = _root_of(request, writes, roots) if request.kind is Kind.PROPOSAL else b""
        problems = self._repeat(request, writes, root, self._rules)
        if not problems or not self._is_explained_by_ballots(request, writes):
            yield from problems

    def _repeat(self, request: Request, writes: Writes, root: bytes, rules: Rules) -> list[str]:
        """Do a request again; what differs."""
        transaction, effects = self._store.begin(), RecordedEffects(writes, self._written)
        try:
            match request.kind:
                case Kind.PROPOSAL:
                    proposals.propose(transaction, request, root, effects, rules, now=None)
                case Kind.BALLOT:
                    proposal_id = str(request.proposal_id)
                    proposals.vote(transaction, request, proposal_id, request.claimed, effects, rules)
                case Kind.WITHDRAWAL:
                    proposals.withdraw(transaction, request, str(request.proposal_id))
                case _:
                    kind = request.kind.value
                    return [f"table {tables.COSE_HISTORY}: a request of type {kind} is not kept there"]
        except KluisError as error:
            return [f"governance: {error.message}"]
        return [
            *effects.problems,
            *differences(transaction.writes, writes),
            *problem_of_shares(transaction, writes),
        ]

    def _is_explained_by_ballots(self, request: Request, writes: Writes) -> bool:
        """Whether nothing differs if ballots that nobody can repeat came to something else in the service."""
        info = writes.get(tables.PROPOSALS_INFO, {}).get(str(request.proposal_id).encode())
        if request.kind is not Kind.BALLOT or info is None:
            return False
        doubted: set[str] = set()
        self._repeat(request, writes, b"", dataclasses.replace(self._rules, doubted=doubted))
        for stated in _readings(sorted(doubted), read_object(info, "proposal")):
            if not self._repeat(request, writes, b"", dataclasses.replace(self._rules, stated=stated)):
                self.notes += [
                    f"proposal {str(request.proposal_id)[:16]}: the ballot of member {member[:16]} depends on"
                    " limits of time or memory, so only the service knows its vote"
                    for member in stated
                ]
                return True
        return False

    def _check_acknowledgement(self, transaction: Transaction, writes: Writes) -> Iterator[str]:
        ((key, value), *more) = writes[tables.MEMBER_ACKS].items()
        if more or value is None:
            yield f"table {tables.MEMBER_ACKS}: is changed for several members, or emptied, by no proposal"
            return
        stated = read_object(value, tables.MEMBER_ACKS)
        signed = transaction.get(tables.SIGNATURES, tables.ONLY)
        if (raw := stated.get("cose_sign1_req")) is None:
            transaction.put(tables.MEMBER_ACKS, key, write_json({"state_digest": stated.get("state_digest")}))
            if signed is not None and read_object(signed, tables.SIGNATURES)["root"] != stated.get(
                "state_digest"
            ):
                yield f"table {tables.MEMBER_ACKS}: a member was given another digest than the signed one"
        else:
            effects = RecordedEffects(writes, self._written)
            request = requests.parse(b64.decode(str(raw), "acknowledgement"), Kind.ACK)
            acks.acknowledge(transaction, request, key.decode(), effects)
            yield from effects.problems
        yield from differences(transaction.writes, writes)
        yield from problem_of_shares(transaction, writes)


def differences(writes: Writes, recorded: Writes) -> Iterator[str]:
    """In what an entry's public writes differ from those that its request gives, a sentence each."""
    for table in sorted({*writes, *recorded} - NOT_COMPARED - {*_OTHERS}):
        if not tables.is_public(table):
            continue
        ours, theirs = writes.get(table, {}), recorded.get(table, {})
        for key in sorted({*ours, *theirs}):
            if key not in theirs:
                yield f"table {table}: key {_format(key)} is not written, and its request writes it"
            elif key not in ours:
                yield f"table {table}: key {_format(key)} is written, and its request does not write it"
            elif ours[key] != theirs[key] and (
                table != tables.PROPOSALS_INFO or _decision(ours[key]) != _decision(theirs[key])
            ):
                yield (
                    f"table {table}: key {_format(key)} is {_format(theirs[key])}, and its request gives "
                    f"{_format(ours[key])}"
                )


def _decision(info: bytes | None) -> bytes | None:
    """What a proposal came to, without why ballots failed: those words are of one version of the engine."""
    if info is None:
        return None
    read = read_object(info, tables.PROPOSALS_INFO)
    for name in ("failure", "vote_failures"):
        if isinstance(said := read.get(name), dict):
            read[name] = sorted(said) if name == "vote_failures" else True
    return write_json(read)


def _readings(doubted: list[str], info: dict[str, Any]) -> Iterator[dict[str, bool | Failure]]:
    """What these members' ballots may have come to: what a decided proposal has, or else anything."""
    if "final_votes" in info:
        votes, failures = info["final_votes"], info.get("vote_failures")
        yield {member: _recorded(votes, failures, member) for member in doubted}
    elif len(doubted) <= MOST_DOUBTED:
        anything: tuple[bool | Failure, ...] = (True, False, Failure("", None))
        for each in itertools.product(anything, repeat=len(doubted)):
            yield dict(zip(doubted, each, strict=True))


def _recorded(votes: Any, failures: Any, member: str) -> bool | Failure:
    if isinstance(votes, dict) and type(vote := votes.get(member)) is bool:
        return vote
    failure = failures.get(member) if isinstance(failures, dict) else None
    reason, trace = (failure.get("reason"), failure.get("trace")) if isinstance(failure, dict) else ("", None)
    return Failure(str(reason), None if trace is None else str(trace))


def _root_of(request: Request, writes: Writes, roots: Iterable[bytes]) -> bytes:
    """The root that a recorded proposal's id is computed from; if none matches, any other, so that the ids
    differ.
    """
    digest, recorded = sha256(request.message.signature), writes.get(tables.PROPOSALS_INFO, {})
    matching = (root for root in roots if sha256(root + digest).hex().encode() in recorded)
    return next(matching, bytes(32))


def _creates(writes: Writes) -> bool:
    """Whether an entry begins a service again, as a recovery does. Its node, not a member, wrote it."""
    info = writes.get(tables.SERVICE_INFO, {}).get(tables.ONLY)
    return info is not None and read_object(info, tables.SERVICE_INFO).get("status") == "Recovering"


def _request(value: bytes | None) -> Request:
    text = None if value is None else read_json(value, tables.COSE_HISTORY)
    if not isinstance(text, str):
        raise FormatError(f"{tables.COSE_HISTORY}: want a request in base64, got something else")
    raw = b64.decode(text, tables.COSE_HISTORY)
    named: Any = cose.Sign1.parse(raw, "request", max_size=requests.MAX_SIZE).headers.get(requests.TYPE)
    for kind in Kind:
        if kind.value == named:
            return requests.parse(raw, kind)
    raise FormatError(f"{tables.COSE_HISTORY}: holds a request of an unknown type")


def _format(value: bytes | None) -> str:
    return "removed" if value is None else f"{value[:80]!r}{'..' if len(value) > 80 else ''}"
