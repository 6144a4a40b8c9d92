"""Members and strangers who send a ledger what is signed, and what only looks like it."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kluis.formats.ccf import tables
from kluis.formats.ietf import cose
from kluis.hashes import sha256
from kluis.ledger.governance.faults import (
    InvalidInput,
    NotAuthorized,
    ProposalFailedToValidate,
    ProposalReplay,
    ProposalTooOld,
)
from kluis.ledger.governance.requests import Kind
from tests.ledger.governance.consortium import NO, NOW, Consortium, Party, key, opened
from tests.services.ledger.members import Member
from tests.services.ledger.world import NOBODY, Identity, Served, World, run

CHUNK = {"actions": [{"name": "trigger_ledger_chunk"}]}


def test_a_small_window_takes_no_request_twice() -> None:
    """A proposal that left the window within its second is not taken again."""
    consortium = opened()
    change = {"name": "set_service_configuration", "args": {"recent_cose_proposals_window_size": 1}}
    consortium.accept(change, created_at=NOW + 1)
    sent = [
        consortium.members[0].sign(Kind.PROPOSAL, {**CHUNK, "note": number}, created_at=NOW + 2)
        for number in range(6)
    ]
    for raw in sent:
        try:
            consortium.submit(raw, now=NOW + 2)
        except ProposalTooOld:
            continue
    assert len(list(consortium.store.begin().items(tables.RECENT_PROPOSALS))) == 1
    for raw in sent:
        with pytest.raises((ProposalReplay, ProposalTooOld)):
            consortium.submit(raw, now=NOW + 2)


def _mirrored(raw: bytes, bits: int) -> bytes:
    """A request with the other signature that verifies, as anybody who reads the ledger makes it."""
    message = cose.Sign1.parse(raw, "request")
    size, order = len(message.signature) // 2, key(0, bits).curve.group_order
    other = (order - int.from_bytes(message.signature[size:], "big")).to_bytes(size, "big")
    return message.encode(message.signature[:size] + other)


# As CCF's own for operators: what some members propose is accepted without a ballot.
AT_ONCE = """
export const validate = () => ({valid: true, description: ""});
export const resolve = () => "Accepted";
export const apply = (proposal) => {
  const user = ccf.kv["public:ccf.gov.users.info"];
  const {add, name} = JSON.parse(proposal);
  if (add) user.set(ccf.strToBuf(name), ccf.jsonCompatibleToBuf({}));
  else user.delete(ccf.strToBuf(name));
};"""


@pytest.mark.parametrize("bits", [256, 384, 521])
def test_a_request_with_its_other_signature_is_the_same_request(bits: int) -> None:
    """Nobody but its member repeats a proposal, whatever can be computed from a signature."""
    consortium = Consortium(constitution=AT_ONCE, members=[Party(0, bits=bits)])
    consortium.activate()
    (member,) = consortium.members
    sent = [
        member.sign(Kind.PROPOSAL, {"add": at != 4, "name": "mallory", "note": at}, created_at=NOW + at)
        for at in (1, 2, 3, 4)
    ]
    for raw in sent:
        consortium.submit(raw)
    assert consortium.get("public:ccf.gov.users.info", "mallory") is None
    for raw in sent:
        with pytest.raises((ProposalReplay, ProposalTooOld)):
            consortium.submit(_mirrored(raw, bits))
    assert consortium.get("public:ccf.gov.users.info", "mallory") is None
    assert consortium.replayed() == []


def test_a_small_window_takes_no_request_twice_by_its_other_signature() -> None:
    """Nor one that left the window within its second, however the digests are ordered."""
    consortium = opened()
    change = {"name": "set_service_configuration", "args": {"recent_cose_proposals_window_size": 1}}
    consortium.accept(change, created_at=NOW + 1)

    def sign(number: int) -> tuple[bytes, bytes, bytes]:
        chunk = {**CHUNK, "note": number}
        raw = consortium.members[0].sign(Kind.PROPOSAL, chunk, created_at=NOW + 2)
        return _digest(raw), raw, _mirrored(raw, 384)

    first, second = next(
        (one, two)
        for one, two in itertools.permutations(map(sign, range(100)), 2)
        if one[0] < min(two[0], _digest(two[2])) and two[0] < _digest(one[2])
    )
    for _, raw, _ in (first, second):
        consortium.submit(raw, now=NOW + 2)
    for _, raw, other in (first, second):
        for each in (raw, other):
            with pytest.raises((ProposalReplay, ProposalTooOld)):
                consortium.submit(each, now=NOW + 2)


def _digest(raw: bytes) -> bytes:
    return sha256(cose.Sign1.parse(raw, "request").signature)


def test_the_ballots_of_removed_members_count_no_more() -> None:
    """Two of five accept nothing, also once they are two of three: nor does a ballot against it."""
    consortium = opened(5)
    honest, (one, two) = consortium.members[:3], consortium.members[3:]
    user = {"name": "set_user", "args": {"cert": one.certificate}}
    evil = consortium.propose(user, by=one, created_at=NOW + 1)
    for member in (one, two):
        assert consortium.vote(evil, member).state == "Open"
    for at, member in enumerate((one, two), 2):
        consortium.accept({"name": "remove_member", "args": {"member_id": member.id}}, created_at=NOW + at)
    assert consortium.vote(evil, honest[0], NO).state == "Open"
    assert consortium.get(tables.USER_CERTIFICATES, one.id) is None
    assert consortium.vote(evil, honest[1], NO).state == "Rejected"
    assert consortium.replayed() == []


@pytest.mark.parametrize("before", ["nothing", "another role", "no key", "no key, and acknowledged"])
def test_a_removed_members_share_opens_nothing_later(before: str) -> None:
    """Also of one who was made a new member first, with less: it had a share, whatever its row states now."""
    consortium = Consortium(members=[Party(0), Party(1), Party(2, role="Owner")])
    consortium.activate()
    consortium.open()
    owner, secret = consortium.members[2], consortium.secrets.latest.reveal()
    less: dict[str, Any] = {"cert": owner.certificate}
    if before == "another role":
        less |= {"encryption_pub_key": owner.encryption_pem, "recovery_role": "NonParticipant"}
    if before != "nothing":
        consortium.accept({"name": "set_member", "args": less}, created_at=NOW + 1)
    if before.endswith("acknowledged"):
        consortium.activate(owner)
    assert consortium.secrets.latest.reveal() == secret
    consortium.accept({"name": "remove_member", "args": {"member_id": owner.id}}, created_at=NOW + 2)
    assert consortium.secrets.latest.reveal() != secret
    assert consortium.replayed() == []


def test_a_member_who_has_yet_to_acknowledge_has_no_vote() -> None:
    """Nor has one whom a proposal made a new member again: it is active once it acknowledged."""
    consortium = opened(3)
    one, two, three = consortium.members
    again = {"name": "set_member", "args": {"cert": one.certificate}}
    proposal = consortium.propose({"name": "trigger_ledger_chunk"}, created_at=NOW + 1)
    assert consortium.vote(proposal, one).state == "Open"
    made = consortium.propose(again, by=two, created_at=NOW + 2)
    for member in (two, three):
        made = consortium.vote(made, member)
    assert made.state == "Accepted"
    assert consortium.vote(proposal, two).state == "Open"
    assert consortium.vote(proposal, three).state == "Accepted"


def test_what_no_member_signed_waits_for_nothing(tmp_path: Path) -> None:
    """It is refused at once, also while the log takes nothing: strangers neither queue nor end batches."""
    world = World(tmp_path / "ledger", open=False)

    async def test(served: Served) -> None:
        engine = served.node.engine
        queued: list[Any] = []
        monitored = engine.write

        async def write(*arguments: Any, **more: Any) -> Any:
            queued.append(arguments)
            return await monitored(*arguments, **more)

        engine.write = write  # type: ignore[method-assign]
        stranger = Member(served, NOBODY)
        body = json.dumps(CHUNK).encode()
        for path, kind in (
            ("members/proposals:create", "proposal"),
            (f"members/state-digests/{NOBODY.id}:update", "state_digest"),
            (f"members/state-digests/{NOBODY.id}:ack", "ack"),
            (f"recovery/members/{NOBODY.id}:recover", "recovery_share"),
        ):
            answer = await asyncio.wait_for(stranger.send(path, kind, body), 60)
            assert answer.status_code == 401, answer.text
        assert queued == []

    run(world, test)


BALLOTS = {
    "pollutes prototypes": """
        Object.prototype.vote = () => true; Array.prototype.filter = function () { return [1, 2, 3, 4, 5]; };
        Object.defineProperty(Object.prototype, "vote", {get() { return true; }, set() {}});
        JSON.parse = () => ({actions: []}); ccf.kv = {}; globalThis.ccf = undefined;
        export const vote = () => false;""",
    "votes for others": """
        export const vote = (p, proposer, id) => ({member_id: 'other', vote: true}) && false;""",
    "imports the constitution": "import {resolve} from 'constitution'; export const vote = () => true;",
    "writes a table": """
        export const vote = () => {
          ccf.kv['public:ccf.gov.members.info'].clear(); return true; }""",
    "writes an application's": """
        export const vote = () => {
          ccf.kv['app.users'].set(new ArrayBuffer(1), new ArrayBuffer(1)); return true; }""",
    "reads an application's": "export const vote = () => ccf.kv['app.entries'].size > -1;",
    "reads a private one of the service": "export const vote = () => ccf.kv['ccf.x'].size > -1;",
    "throws": "export const vote = () => { throw {get message() { return 'x'.repeat(1e7); }}; };",
    "throws a proxy": "export const vote = () => { throw new Proxy({}, {get() { throw 1; }}); };",
    "never ends": "export const vote = () => { for (;;); };",
    "never ends at its evaluation": "for (;;); export const vote = () => true;",
    "recurses": "export const vote = () => vote();",
    "grows": "export const vote = () => { const a = []; for (;;) a.push('x'.repeat(1e5)); };",
    "grows a text": "export const vote = () => { let a = 'x'; for (;;) a += a; };",
    "makes a constitution valid": """
        export const vote = () => {
          ccf.gov.validateConstitution('x'); return true; }""",
    "opens the service": "export const vote = () => { ccf.node.transitionServiceToOpen(); return true; }",
    "rekeys": "export const vote = () => { ccf.node.triggerLedgerRekey(); return true; }",
    "calls the host": "export const vote = () => __ccf('put', 'public:ccf.gov.x', 'a', 'b') || true;",
}  # fmt: skip


@pytest.fixture(scope="module")
def voting() -> Consortium:
    """Three members."""
    return opened(3)


@pytest.mark.parametrize("name", BALLOTS)
def test_a_ballot_is_one_vote_at_most(voting: Consortium, name: str) -> None:
    """Whatever it does: it changes no table, no other member's vote, and not what resolve sees."""
    at = NOW + 10 + list(BALLOTS).index(name)
    proposal = voting.propose({"name": "trigger_ledger_chunk"}, created_at=at)
    before = {
        table: dict(voting.store.begin().items(table))
        for table in voting.store.tables()
        if table not in (tables.PROPOSALS_INFO, tables.COSE_HISTORY)
    }
    one, two, three = voting.members
    after = voting.vote(proposal, one, BALLOTS[name])
    assert after.state == "Open", after.info
    for table, rows in before.items():
        assert dict(voting.store.begin().items(table)) == rows
    after = voting.vote(proposal, two, "export const vote = () => false;")
    if after.state == "Open":
        after = voting.vote(proposal, three, "export const vote = () => false;")
    assert after.state == "Rejected", after.info
    assert one.id not in [member for member, vote in after.info["final_votes"].items() if vote]


def test_open_proposals_of_a_member_are_bounded() -> None:
    """Every node keeps them in memory, also after its next start: too many would end the ledger for all."""
    consortium = opened(3)
    one, two, _ = consortium.members
    times = itertools.count(NOW + 1)

    def propose(party: Party, size: int) -> str:
        padded, at = {**CHUNK, "note": "x" * size}, next(times)
        return consortium.submit(party.sign(Kind.PROPOSAL, padded, created_at=at), now=at).id

    large = [propose(one, 1_000_000) for _ in range(4)]
    with pytest.raises(NotAuthorized, match="at most 64 open ones of a member, with 4194304 bytes, got 5"):
        propose(one, 1_000_000)
    propose(two, 1_000_000)
    consortium.withdraw(large[0], one)
    for _ in range(61):
        propose(one, 1)
    with pytest.raises(NotAuthorized, match="got 65 with"):
        propose(one, 1)
    assert consortium.replayed() == []


def test_scripts_that_their_engine_could_not_compile(voting: Consortium) -> None:
    """A ballot and a constitution for which the compiler could lack memory, and read what is not its own."""
    at = NOW + 10 + len(BALLOTS)
    proposal = voting.propose({"name": "trigger_ledger_chunk"}, created_at=at)
    for form in ("(class{#a=1});", "a\n", "é;"):
        with pytest.raises(InvalidInput, match="of at most 24576 bytes"):
            voting.vote(proposal, voting.members[0], form * (24 * 1024 // len(form.encode()) + 1))
        long = {"name": "set_constitution", "args": {"constitution": form * (200_000 // len(form))}}
        with pytest.raises(ProposalFailedToValidate, match=r"want at most 125[0-9]{3} bytes of source, got"):
            voting.propose(long, created_at=at + 1)
    assert voting.vote(proposal, voting.members[0], "export const vote = () => true;").state == "Open"


FILLING = """
let left = 'y'.repeat(LEFT), i = 0, n = 1 << 20;
globalThis.list = new Array(9000).fill(0);
const fill = () => {
  while (n >= 32) { try { list[i] = 'x'.repeat(n); i++; } catch { n >>= 1; } }
  left = null;
};
WHEN
export const vote = () => true;"""
VOTING = """
import sys
from kluis.ledger.governance.constitution import Constitution, Rules
from kluis.ledger.store import Store
for left in range(0, int(sys.argv[2]), int(sys.argv[2]) // 100):
    ballot = sys.argv[1].replace("LEFT", str(left))
    print(Constitution(Store().begin(), Rules(), "").vote(ballot, "{}", "a" * 64, "b" * 64, "c" * 64))"""


BINDING = (
    "fill(); for (let k = 0; k < 3; k++) { try { (() => 1).bind(null); } catch (e) { globalThis.e = e; } }"
)
ZIPPING = "fill(); try { Iterator.zip([[1], [2]]).next(); } catch (e) { globalThis.e = e; }"


@pytest.mark.parametrize(("when", "most"), [("fill();", 2400), (BINDING, 800), (ZIPPING, 800)])
def test_a_ballot_that_leaves_no_memory(when: str, most: int) -> None:
    """It ends no node: nothing is compiled after it, and nothing of the engine that fails then is called."""
    ended = subprocess.run(
        [sys.executable, "-c", VOTING, FILLING.replace("WHEN", when), str(most)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(ended.stdout.splitlines()) == 100


def test_members_of_one_key_are_one_member(tmp_path: Path) -> None:
    """A removed member's requests count no more, those that were signed before included."""
    world = World(tmp_path / "ledger", open=False)
    second = Identity("member1")

    async def test(served: Served) -> None:
        first = Member(served)
        assert (await first.acknowledge()).status_code == 204
        certificate = served.node.service.certificate
        await first.decide("transition_service_to_open", next_service_identity=certificate)
        await first.decide("set_member", cert=second.pem)
        other = Member(served, second)
        assert (await other.acknowledge()).status_code == 204
        world.clock.pass_(2)
        body = json.dumps({"actions": [{"name": "remove_member", "args": {"member_id": second.id}}]}).encode()
        proposal = (await first.send("members/proposals:create", "proposal", body)).json()["proposalId"]
        await first.vote(proposal)
        decided = await other.vote(proposal)
        assert decided.json()["proposalState"] == "Accepted", decided.text
        world.clock.pass_(2)
        for answer in (
            await other.vote(proposal),
            await other.send("members/proposals:create", "proposal", json.dumps(CHUNK).encode()),
            await other.send(f"members/state-digests/{second.id}:update", "state_digest", b""),
            await other.send(f"recovery/members/{second.id}:recover", "recovery_share", b'{"share":"AA=="}'),
        ):
            assert answer.status_code == 401, answer.text

    run(world, test)
