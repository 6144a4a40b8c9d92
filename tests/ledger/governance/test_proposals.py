"""Proposals and ballots: who decides what, when, and what is written."""

# ruff: noqa: E501 # scripts are read more easily on one line

from __future__ import annotations

import dataclasses
import json

import pytest

from kluis.formats.ccf import tables
from kluis.ledger.governance import proposals
from kluis.ledger.governance.constitution import OF_BALLOT, Rules
from kluis.ledger.governance.faults import (
    ConstitutionFailed,
    GovernanceError,
    NotAuthorized,
    OtherMember,
    OtherProposal,
    ProposalFailedToValidate,
    ProposalNotFound,
    ProposalNotOpen,
    VoteAlreadyExists,
    VoteNotFound,
)
from kluis.ledger.governance.requests import Kind, parse
from kluis.ledger.js import Limits
from tests.ledger.governance.consortium import NO, NOW, YES, Consortium, Party, opened

USER = Party(50, encrypts=False)
SET_USER = {"name": "set_user", "args": {"cert": USER.certificate, "user_data": {"b": 1, "a": [1.5]}}}
ENDLESS = "export function vote() { while (true) {} }"
GROWING = "export function vote() { const a = []; while (true) a.push('x'.repeat(1000) + a.length); }"


def test_a_proposal_from_its_start_to_its_end() -> None:
    """Two of three members accept; the writes are those of CCF, byte for byte."""
    consortium = opened()
    one, two, three = consortium.members
    proposal = consortium.propose(SET_USER)
    assert proposal.answer() == {
        "proposalId": proposal.id, "proposerId": one.id, "proposalState": "Open", "ballotCount": 0,
    }  # fmt: skip
    assert consortium.get(tables.PROPOSALS_INFO, proposal.id) == (
        f'{{"ballots":{{}},"proposer_id":"{one.id}","state":"Open"}}'.encode()
    )

    assert consortium.vote(proposal, one).state == "Open"
    accepted = consortium.vote(proposal, two)

    assert accepted.answer() == {
        "proposalId": proposal.id, "proposerId": one.id, "proposalState": "Accepted", "ballotCount": 2,
        "finalVotes": {one.id: True, two.id: True}, "voteFailures": {},
    }  # fmt: skip
    assert consortium.get("public:ccf.gov.users.certs", USER.id) == USER.certificate.encode()
    assert consortium.get("public:ccf.gov.users.info", USER.id) == b'{"user_data":{"b":1,"a":[1.5]}}'
    with pytest.raises(ProposalNotOpen, match="is Accepted"):
        consortium.vote(proposal, three)
    assert consortium.replayed() == []


def test_votes_against_reject() -> None:
    """Two of three members against it decide it, too."""
    consortium = opened()
    proposal = consortium.propose(SET_USER)

    assert consortium.vote(proposal, consortium.members[1], NO).state == "Open"
    rejected = consortium.vote(proposal, consortium.members[2], NO)
    assert rejected.state == "Rejected"
    assert rejected.info["final_votes"] == {each.id: False for each in consortium.members[1:]}
    assert consortium.get("public:ccf.gov.users.certs", USER.id) is None
    assert consortium.replayed() == []


def test_decided_proposals_leave_the_tables() -> None:
    """When the next one is decided; open ones stay."""
    consortium = opened()
    first = consortium.accept(SET_USER, created_at=NOW + 1)
    other = consortium.propose(SET_USER, created_at=NOW + 2)
    consortium.accept(SET_USER, created_at=NOW + 3)

    assert consortium.get(tables.PROPOSALS, first.id) is None
    assert consortium.get(tables.PROPOSALS_INFO, first.id) is None
    assert consortium.json(tables.PROPOSALS_INFO, other.id)["state"] == "Open"
    assert consortium.replayed() == []


def test_ballots_again() -> None:
    """The same one changes nothing; another one is refused; a stranger's is, too."""
    consortium = opened()
    one, two, _ = consortium.members
    proposal = consortium.propose(SET_USER)
    consortium.vote(proposal, one)
    entries = len(consortium.entries)

    assert consortium.vote(proposal, one).info["ballots"] == {one.id: YES}
    assert len(consortium.entries) == entries
    with pytest.raises(VoteAlreadyExists):
        consortium.vote(proposal, one, NO)
    with pytest.raises(ProposalNotFound):
        consortium.vote("00" * 32, two)
    raw = two.sign(Kind.BALLOT, {"ballot": YES}, proposal_id=proposal.id)
    with pytest.raises(OtherMember):
        consortium.run(
            lambda t: proposals.vote(
                t, parse(raw, Kind.BALLOT), proposal.id, one.id, consortium.effects, consortium.rules
            )
        )
    with pytest.raises(OtherProposal):
        consortium.run(
            lambda t: proposals.vote(
                t, parse(raw, Kind.BALLOT), "00" * 32, two.id, consortium.effects, consortium.rules
            )
        )
    begun = consortium.store.begin()
    assert proposals.ballot(begun, proposal.id, one.id) == YES
    with pytest.raises(VoteNotFound):
        proposals.ballot(begun, proposal.id, two.id)
    assert proposals.actions(begun, proposal.id) == [SET_USER]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (ENDLESS, "Operation took too long to complete."),
        (GROWING, "script: ran out of its memory"),
        ("export function vote() { throw new Error('why'); }", "Error: why"),
        ("export function other() {}", "SyntaxError: Could not find export 'vote' in module 'ballot'"),
        ("not JavaScript", None),
        ("export const vote = (p) => ccf.kv['public:balances'].get(new ArrayBuffer(1));", None),
        ("export const vote = () => ccf.kv['public:ccf.gov.users.info'].set(new ArrayBuffer(1), new ArrayBuffer(1));", None),
        ("export const vote = () => ccf.node.triggerLedgerRekey();", None),
        ("export const vote = () => __ccf('rekey');", None),
        ("export const vote = () => 1n < 2n;", None),
        ("export async function vote() { return false; }", "TypeError: vote() returned a promise"),
    ],
)  # fmt: skip
def test_a_ballot_that_fails(script: str, reason: str | None) -> None:
    """It is a failure on record, and the others count."""
    # On a loaded machine, half a second would be over before the memory is.
    patient = dataclasses.replace(OF_BALLOT, seconds=OF_BALLOT.seconds if script == ENDLESS else 300.0)
    consortium = opened(rules=Rules(ballot=patient))
    one, two, three = consortium.members
    proposal = consortium.propose(SET_USER)

    assert consortium.vote(proposal, three, script).state == "Open"
    consortium.vote(proposal, one)
    accepted = consortium.vote(proposal, two)

    assert accepted.info["final_votes"] == {one.id: True, two.id: True}
    assert accepted.info["vote_failures"].keys() == {three.id}
    if reason is not None:
        assert accepted.info["vote_failures"][three.id]["reason"] == reason
    assert consortium.get("public:ccf.gov.users.certs", USER.id) is not None


def test_a_ballot_sees_the_proposal_and_the_tables() -> None:
    """Its arguments are the proposal's text, its proposer and its id; it reads governance tables."""
    consortium = opened()
    one, two, _ = consortium.members
    proposal = consortium.propose(SET_USER)
    script = f"""export function vote(text, proposer, id) {{
        const info = ccf.kv["public:ccf.gov.members.info"].get(ccf.strToBuf(proposer));
        return JSON.parse(text).actions[0].name === "set_user" && proposer === "{one.id}" && id === "{proposal.id}"
            && ccf.bufToJsonCompatible(info).status === "Active" && ccf.kv["public:ccf.gov.members.info"].size === 3;
    }}"""
    consortium.vote(proposal, one)

    assert consortium.vote(proposal, two, script).info["final_votes"] == {one.id: True, two.id: True}


def test_withdrawal() -> None:
    """Only by the proposer, while it is open, twice without effect, and of none at all."""
    consortium = opened()
    one, two, _ = consortium.members
    proposal = consortium.propose(SET_USER)

    with pytest.raises(NotAuthorized):
        consortium.withdraw(proposal.id, two)
    for _ in range(2):
        withdrawn = consortium.withdraw(proposal.id, one)
        assert withdrawn is not None
        assert withdrawn.state == "Withdrawn"
    assert consortium.withdraw("00" * 32, one) is None
    with pytest.raises(ProposalNotOpen):
        consortium.vote(proposal, two)
    accepted = consortium.accept(SET_USER, created_at=NOW + 1)
    with pytest.raises(ProposalNotOpen):
        consortium.withdraw(accepted.id, one)
    assert consortium.replayed() == []


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"not JSON", "is not JSON"),
        (b"[]", "want an object"),
        (b'{"actions": 1}', "actions must be an array"),
        (b'{"actions": []}', "actions must be an array that is not empty"),
        (b'{"actions": [{"name": "no_such"}]}', "no_such: no such action"),
        (b'{"actions": [{"name": "constructor", "args": {}}]}', "constructor: no such action"),
        (b'{"actions": [{"name": "remove_user", "args": {}}]}', "args.user_id is missing"),
        (b'{"actions": [{"name": "remove_user", "args": {"user_id": "x"}}]}', "must be 64 lower-case hexadecimal"),
        (b'{"actions": [{"name": "trigger_ledger_chunk", "args": {"x": 1}}]}', "takes no arguments"),
        (b'{"actions": [], "actions": []}', "appears twice"),
        (b'{"actions": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than"),
        (b"\xff", "is not UTF-8"),
    ],
)  # fmt: skip
def test_a_proposal_that_is_none(payload: bytes, problem: str) -> None:
    """It is refused, with the constitution's reason, and nothing is written."""
    consortium = opened()
    entries = len(consortium.entries)

    with pytest.raises(ProposalFailedToValidate, match=problem.replace(".", r"\.")):
        consortium.submit(consortium.members[0].sign(Kind.PROPOSAL, payload))
    assert len(consortium.entries) == entries


def test_apply_that_fails() -> None:
    """The ballot that would have accepted it is refused, and nothing of it is written."""
    consortium = opened()
    one, two, _ = consortium.members
    proposal = consortium.propose(
        SET_USER, {"name": "set_member_data", "args": {"member_id": "00" * 32, "member_data": {}}}
    )
    consortium.vote(proposal, one)

    with pytest.raises(
        ConstitutionFailed, match=r"Failed to apply\(\): Error: member 0+ does not exist"
    ) as caught:
        consortium.vote(proposal, two)
    assert caught.value.http_status == 500
    assert consortium.json(tables.PROPOSALS_INFO, proposal.id)["ballots"].keys() == {one.id}
    assert consortium.get("public:ccf.gov.users.certs", USER.id) is None


def test_who_may_propose() -> None:
    """A member who acknowledged the state; no other, and no stranger."""
    consortium = Consortium()
    with pytest.raises(NotAuthorized, match="is not active"):
        consortium.propose(SET_USER)
    consortium.activate(consortium.members[0])
    consortium.propose(SET_USER)
    with pytest.raises(GovernanceError) as caught:
        consortium.propose(SET_USER, by=Party(77))
    assert caught.value.odata == "InvalidAuthenticationInfo"
    assert caught.value.http_status == 401


VETO = """
export function validate(input) { return {valid: JSON.parse(input).ok === true, description: "want ok"}; }
export function resolve(proposal, proposerId, votes) {
    if (votes.some((v) => !v.vote)) return "Rejected";
    return votes.length > 0 ? "Accepted" : "Open";
}
export function apply(proposal, proposalId) {
    ccf.kv["public:notes"].set(ccf.strToBuf(proposalId), ccf.strToBuf(proposal));
}
"""


def test_a_custom_constitution() -> None:
    """It decides from its acceptance on; open proposals are dropped, for they meant something else."""
    consortium = opened()
    one, two, _ = consortium.members
    dropped = consortium.propose(SET_USER, created_at=NOW + 1)
    consortium.accept({"name": "set_constitution", "args": {"constitution": VETO}}, created_at=NOW + 2)
    assert consortium.json(tables.PROPOSALS_INFO, dropped.id)["state"] == "Dropped"

    with pytest.raises(ProposalFailedToValidate, match="want ok"):
        consortium.propose(SET_USER, created_at=NOW + 3)
    body = {"ok": True}
    first = consortium.submit(one.sign(Kind.PROPOSAL, body, created_at=NOW + 4))
    assert consortium.vote(first, two, NO).state == "Rejected"
    second = consortium.submit(one.sign(Kind.PROPOSAL, body, created_at=NOW + 5))
    assert consortium.vote(second, two).state == "Accepted"
    assert consortium.get("public:notes", second.id) == json.dumps(body).encode()
    assert consortium.replayed() == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("export function validate( {", "SyntaxError"),
        ("export function validate() {}", "does not export resolve, apply"),
    ],
)
def test_a_constitution_that_is_none(source: str, problem: str) -> None:
    """It fails to validate."""
    consortium = opened()
    with pytest.raises(ProposalFailedToValidate, match=problem):
        consortium.propose({"name": "set_constitution", "args": {"constitution": source}})


@pytest.mark.parametrize(
    ("end", "problem"), [("while (true) {}", "took too long"), ("throw new Error('early');", "Error: early")]
)
def test_a_constitution_that_cannot_be_evaluated(end: str, problem: str) -> None:
    """It is evaluated before it counts: the ballot that would accept it is refused, and governance goes on."""
    consortium = opened(rules=Rules(constitution=Limits(seconds=0.5)))
    before = consortium.get(tables.CONSTITUTION, tables.ONLY)
    proposal = consortium.propose({"name": "set_constitution", "args": {"constitution": VETO + end}})
    first, second = consortium.members[:2]
    consortium.vote(proposal, first)
    with pytest.raises(ConstitutionFailed, match=f"the constitution is not valid: .*{problem}"):
        consortium.vote(proposal, second)
    assert consortium.get(tables.CONSTITUTION, tables.ONLY) == before
    consortium.accept(SET_USER, created_at=NOW + 9)
    assert consortium.replayed() == []


@pytest.mark.parametrize(
    ("resolve", "state", "failure"),
    [
        ("throw new Error('why')", "Failed", "Failed to resolve(): Error: why"),
        ("return 'Nonsense'", "Failed", "resolve() gave no state: 'Nonsense'"),
        ("return 1", "Failed", "Failed to resolve(): the result is no text"),
        ("return 'Accepted'", "Accepted", None),
    ],
)
def test_what_resolve_gives(resolve: str, state: str, failure: str | None) -> None:
    """A constitution may decide at once; one that fails fails the proposal."""
    source = f"""export function validate() {{ return {{valid: true, description: ""}}; }}
        export function resolve() {{ {resolve}; }}
        export function apply() {{}}"""
    consortium = Consortium(constitution=source)
    consortium.activate()

    proposal = consortium.propose(SET_USER)
    assert proposal.state == state
    assert proposal.info.get("failure", {}).get("reason") == failure
    assert consortium.replayed() == []


@pytest.mark.parametrize("result", ["1", "undefined", "({valid: 1})", "(() => { throw new Error('x') })()"])
def test_a_validate_that_does_not_answer(result: str) -> None:
    """Nothing is accepted by it."""
    source = f"export const validate = () => {result}; export const resolve = () => 'Open'; export function apply() {{}}"
    consortium = Consortium(constitution=source)
    consortium.activate()
    with pytest.raises(GovernanceError):
        consortium.propose(SET_USER)
