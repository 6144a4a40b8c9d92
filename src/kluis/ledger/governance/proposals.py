"""Proposals and ballots: each is one transaction, which the caller commits, or drops if this raises.

A proposal is ``Open`` until its ballots, its proposer, or a change of the constitution decide it. When one
is decided, those that were decided before leave the tables; the ledger keeps them.

Spec: CCF, "Governance API"; ``src/node/gov/handlers/proposals.h``.
"""

from __future__ import annotations

from typing import Any, Final

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.ledger.governance import recent, requests
from kluis.ledger.governance.constitution import Constitution, Failure, Rules
from kluis.ledger.governance.documents import read_object, write_json
from kluis.ledger.governance.faults import (
    ConstitutionFailed,
    InvalidInput,
    NotAuthorized,
    OtherMember,
    OtherProposal,
    ProposalFailedToValidate,
    ProposalNotFound,
    ProposalNotOpen,
    VoteAlreadyExists,
    VoteNotFound,
)
from kluis.ledger.governance.requests import Request
from kluis.ledger.governance.scripts.effects import Effects
from kluis.ledger.store import Transaction

OPEN: Final = "Open"
ACCEPTED: Final = "Accepted"
WITHDRAWN: Final = "Withdrawn"
STATES: Final = frozenset({OPEN, ACCEPTED, WITHDRAWN, "Rejected", "Failed", "Dropped"})
MAX_BALLOT: Final = 24 * 1024
"""Bytes: what its engine compiles, next to the objects that a ballot gets."""
MOST_OPEN: Final = 64
MOST_OPEN_BYTES: Final = 4 << 20
"""Of one member's open proposals, which stay in a node's memory, also after its next start."""


@frozen
class Proposal:
    """A proposal as the tables have it.

    Attributes:
        id: SHA-256, in hexadecimal.
        info: ``proposer_id``, ``state``, ``ballots``; once decided ``final_votes`` and ``vote_failures``.
    """

    id: str
    info: dict[str, Any]

    @property
    def state(self) -> str:
        """``Open``, ``Accepted``, ``Rejected``, ``Withdrawn``, ``Failed`` or ``Dropped``."""
        return str(self.info["state"])

    def answer(self) -> dict[str, Any]:
        """As the governance API answers it."""
        names = {"final_votes": "finalVotes", "vote_failures": "voteFailures", "failure": "failure"}
        return {
            "proposalId": self.id,
            "proposerId": self.info["proposer_id"],
            "proposalState": self.state,
            "ballotCount": len(self.info["ballots"]),
            **{name: self.info[key] for key, name in names.items() if key in self.info},
        }


def propose(
    transaction: Transaction,
    request: Request,
    root: bytes,
    effects: Effects,
    rules: Rules,
    *,
    now: int | None,
) -> Proposal:
    """Submit a proposal.

    Args:
        transaction: to run in.
        request: of kind ``proposal``.
        root: of the tree over all entries up to the one that the transaction reads, 32 bytes.
        effects: the node's side, should the constitution accept at once.
        rules: limits of scripts.
        now: seconds since 1970; None for a proposal of the past.

    Raises:
        GovernanceError: it is refused; nothing may be committed.
    """
    member = requests.authenticate(transaction, request)
    proposal_id = sha256(root + sha256(request.message.signature)).hex()
    recent.remember(transaction, request, proposal_id, now)
    if now is not None:
        _check_room(transaction, member, len(request.payload))
    text = _text(request)
    constitution = Constitution(transaction, rules)
    if (problem := constitution.validate(text)) is not None:
        raise ProposalFailedToValidate(f"proposal: failed to validate: {problem}")
    requests.record(transaction, request)
    transaction.put(tables.PROPOSALS, proposal_id.encode(), request.payload)
    proposal = Proposal(proposal_id, {"proposer_id": member, "state": OPEN, "ballots": {}})
    return _decide(transaction, proposal, text, constitution, effects)


def vote(
    transaction: Transaction,
    request: Request,
    proposal_id: str,
    member_id: str,
    effects: Effects,
    rules: Rules,
) -> Proposal:
    """Submit a ballot; the same one again changes nothing.

    Args:
        transaction: to run in.
        request: of kind ``ballot``.
        proposal_id: of the path.
        member_id: of the path.
        effects: the node's side, should the constitution accept now.
        rules: limits of scripts.

    Raises:
        GovernanceError: it is refused; nothing may be committed.
    """
    member = requests.authenticate(transaction, request)
    _same(request, proposal_id)
    if member != member_id:
        raise OtherMember(f"ballot: want a signature of {member_id}, got one of {member}")
    proposal = find(transaction, proposal_id)
    ballot = _ballot(request)
    if (before := proposal.info["ballots"].get(member)) == ballot:
        return proposal
    if proposal.state != OPEN:
        raise ProposalNotOpen(f"proposal {proposal_id}: is {proposal.state}, and no ballot counts any more")
    if before is not None:
        raise VoteAlreadyExists(f"proposal {proposal_id}: member {member} submitted another ballot before")
    requests.record(transaction, request)
    proposal.info["ballots"][member] = ballot
    text, constitution = content(transaction, proposal_id), Constitution(transaction, rules)
    return _decide(transaction, proposal, text, constitution, effects)


def withdraw(transaction: Transaction, request: Request, proposal_id: str) -> Proposal | None:
    """Withdraw a proposal; a second time changes nothing.

    Returns:
        the proposal; None if there is none, and nothing to do.

    Raises:
        GovernanceError: it is refused; nothing may be committed.
    """
    member = requests.authenticate(transaction, request)
    _same(request, proposal_id)
    try:
        proposal = find(transaction, proposal_id)
    except ProposalNotFound:
        return None
    if proposal.info["proposer_id"] != member:
        raise NotAuthorized(f"proposal {proposal_id}: only its proposer withdraws it")
    if proposal.state == WITHDRAWN:
        return proposal
    if proposal.state != OPEN:
        raise ProposalNotOpen(f"proposal {proposal_id}: is {proposal.state}, and is not withdrawn any more")
    requests.record(transaction, request)
    proposal.info["state"] = WITHDRAWN
    _forget_decided(transaction, proposal_id)
    _write(transaction, proposal)
    return proposal


def find(transaction: Transaction, proposal_id: str) -> Proposal:
    """A proposal of the tables.

    Raises:
        ProposalNotFound: there is none of that id.
    """
    data = None
    if requests.is_id(proposal_id):
        data = transaction.get(tables.PROPOSALS_INFO, proposal_id.encode())
    if data is None:
        raise ProposalNotFound(f"proposal {proposal_id[:64]!a}: there is none in the tables")
    return _read(proposal_id, data)


def proposals(transaction: Transaction) -> list[Proposal]:
    """All proposals of the tables, by id."""
    return [
        _read(key.decode("utf-8", "replace"), data) for key, data in transaction.items(tables.PROPOSALS_INFO)
    ]


def _read(proposal_id: str, data: bytes) -> Proposal:
    """A proposal of the tables, which in files are whatever their service wrote.

    Raises:
        FormatError: its members are missing, or of other types.
    """
    info = read_object(data, "proposal")
    ballots = info.get("ballots")
    texts = [
        info.get("proposer_id"),
        info.get("state"),
        *(ballots.values() if isinstance(ballots, dict) else ()),
    ]
    if not isinstance(ballots, dict) or not all(isinstance(each, str) for each in texts):
        raise FormatError(
            f"proposal {proposal_id[:64]!a}: want text as proposer_id, state and ballots, got another type",
            code="bad_type",
        )
    return Proposal(proposal_id, info)


def content(transaction: Transaction, proposal_id: str) -> str:
    """The text of a proposal, as it was submitted.

    Raises:
        ConstitutionFailed: the tables do not have it.
    """
    data = transaction.get(tables.PROPOSALS, proposal_id.encode())
    if data is None:
        raise ConstitutionFailed(f"proposal {proposal_id}: its content is not in the tables")
    return data.decode("utf-8", "replace")


def actions(transaction: Transaction, proposal_id: str) -> list[Any]:
    """The actions of a proposal, as they were submitted.

    Raises:
        ProposalNotFound: there is none of that id.
    """
    find(transaction, proposal_id)
    listed = read_object(content(transaction, proposal_id).encode(), "proposal").get("actions")
    return listed if isinstance(listed, list) else []


def ballot(transaction: Transaction, proposal_id: str, member_id: str) -> str:
    """The ballot of a member on a proposal, JavaScript.

    Raises:
        ProposalNotFound: there is no such proposal.
        VoteNotFound: the member submitted none.
    """
    script = find(transaction, proposal_id).info["ballots"].get(member_id)
    if not isinstance(script, str):
        raise VoteNotFound(f"proposal {proposal_id}: member {member_id[:64]!a} submitted no ballot")
    return script


def _decide(
    transaction: Transaction, proposal: Proposal, text: str, constitution: Constitution, effects: Effects
) -> Proposal:
    """Evaluate all ballots, resolve, and apply what is accepted."""
    info, votes, failures = proposal.info, {}, {}
    for member, script in sorted(info["ballots"].items()):
        tally = constitution.vote(script, text, info["proposer_id"], proposal.id, member)
        if isinstance(tally, Failure):
            failures[member] = tally.value()
        else:
            votes[member] = tally
    state, failure = constitution.resolve(text, info["proposer_id"], list(votes.items()), proposal.id)
    if state not in STATES:
        state, failure = "Failed", Failure(f"resolve() gave no state: {state[:60]!a}", None)
    info["state"] = state
    if state != OPEN:
        _forget_decided(transaction, proposal.id)
        info["final_votes"], info["vote_failures"] = votes, failures
        if failure is not None:
            info["failure"] = failure.value()
    _write(transaction, proposal)
    if state == ACCEPTED:
        constitution.apply(text, proposal.id, effects)
    return proposal


def _forget_decided(transaction: Transaction, but: str) -> None:
    for each in proposals(transaction):
        if each.id != but and each.state != OPEN:
            transaction.remove(tables.PROPOSALS, each.id.encode())
            transaction.remove(tables.PROPOSALS_INFO, each.id.encode())


def _write(transaction: Transaction, proposal: Proposal) -> None:
    transaction.put(tables.PROPOSALS_INFO, proposal.id.encode(), write_json(proposal.info))


def _check_room(transaction: Transaction, member: str, size: int) -> None:
    """Nodes of CCF have no such limit, so one in a ledger of the past may be above it."""
    own = [each for each in proposals(transaction) if each.info["proposer_id"] == member]
    sizes = [len(content(transaction, each.id).encode()) for each in own if each.state == OPEN]
    if len(sizes) >= MOST_OPEN or sum(sizes) + size > MOST_OPEN_BYTES:
        raise NotAuthorized(
            f"proposal: want at most {MOST_OPEN} open ones of a member, with {MOST_OPEN_BYTES} bytes, got"
            f" {len(sizes) + 1} with {sum(sizes) + size}",
            hint="withdraw one first",
        )


def _text(request: Request) -> str:
    try:
        text = request.payload.decode()
        read_object(request.payload, "proposal")
    except (UnicodeDecodeError, FormatError) as error:
        reason = error.message if isinstance(error, FormatError) else "proposal: is not UTF-8"
        raise ProposalFailedToValidate(reason) from None
    return text


def _ballot(request: Request) -> str:
    try:
        script = read_object(request.payload, "ballot").get("ballot")
    except FormatError as error:
        raise InvalidInput(error.message) from None
    if not isinstance(script, str) or len(script.encode("utf-8", "replace")) > MAX_BALLOT:
        raise InvalidInput(
            f'ballot: want {{"ballot": text}} of at most {MAX_BALLOT} bytes, got something else'
        )
    return script


def _same(request: Request, proposal_id: str) -> None:
    if request.proposal_id != proposal_id:
        raise OtherProposal(f"request: is signed for another proposal than {proposal_id[:64]!a}")
