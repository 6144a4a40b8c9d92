"""Members whose ballots count more than one vote, or spoil what others find."""

from __future__ import annotations

import dataclasses
import json
import string
import subprocess
import sys

import pytest

from kluis.errors import FormatError, InternalError, KluisError
from kluis.formats.ccf import tables
from kluis.formats.encoding import b64
from kluis.ledger.governance import documents
from kluis.ledger.governance.constitution import OF_BALLOT, Constitution, Failure, Rules, check, evaluate
from kluis.ledger.governance.faults import ConstitutionFailed
from kluis.ledger.governance.replay import Replay
from kluis.ledger.governance.requests import Kind
from kluis.ledger.js import HostFault, ScriptLimit
from kluis.ledger.store import Store
from tests.ledger.governance.consortium import DATE, NO, NOW, Consortium, opened


@pytest.fixture(scope="module")
def voting() -> Consortium:
    """Three members."""
    return opened(3)


# Each is harmless when it is submitted, and fails whenever another member votes.
LATER_BALLOTS = {
    "a certificate that is none": "ccf.pemToId('x');",
    "its memory": "const a = []; for (;;) a.push('x'.repeat(1e5) + a.length);",
    "its time": "for (;;);",
}


@pytest.mark.parametrize("name", LATER_BALLOTS)
def test_a_ballot_that_fails_later_stops_nobody_elses(voting: Consortium, name: str) -> None:
    """A member who sees that a proposal has a ballot of its own already has no veto."""
    at = NOW + 100 + list(LATER_BALLOTS).index(name)
    proposal = voting.propose({"name": "trigger_ledger_chunk"}, created_at=at)
    one, two, three = voting.members
    evil = f"""export const vote = (text, proposer, id) => {{
      const stored = ccf.kv['public:ccf.gov.proposals_info'].get(ccf.strToBuf(id));
      if ('{one.id}' in ccf.bufToJsonCompatible(stored).ballots) {{ {LATER_BALLOTS[name]} }}
      return false; }};"""
    assert voting.vote(proposal, one, evil).state == "Open"
    assert voting.vote(proposal, two).state == "Open"
    after = voting.vote(proposal, three)
    assert after.state == "Accepted"
    assert list(after.info["vote_failures"]) == [one.id]
    assert voting.replayed() == []


@pytest.mark.parametrize("kind", [InternalError, FormatError])
def test_an_error_of_a_function_that_a_ballot_calls_is_the_ballots(
    voting: Consortium, kind: type[KluisError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of our own."""
    at = NOW + 110 + [InternalError, FormatError].index(kind)
    proposal = voting.propose({"name": "trigger_ledger_chunk"}, created_at=at)

    def fail(*_: object) -> None:
        raise kind("text: want bytes, got text")

    monkeypatch.setattr("kluis.ledger.governance.scripts.crypto.pem_to_id", fail)
    one, two, _ = voting.members
    calls = "export const vote = () => { ccf.pemToId('x'); return true; };"
    assert voting.vote(proposal, one, calls).state == "Open"
    assert voting.vote(proposal, two, NO).state == "Open"


# Each comes to something else in a service with less time than its auditor, or with another allocator.
SLOW = "for (let i = 0; i < 3e7; i++);"
COUNTS = """
    let fit = 0; const kept = [];
    try { for (;;) { kept.push('x'.repeat(1e5) + fit); fit++; } } catch { kept.length = 0; }
    if (fit < 150) return false;"""
LESS_TIME = Rules(ballot=dataclasses.replace(OF_BALLOT, seconds=0.05))
OTHER_MEMORY = Rules(ballot=dataclasses.replace(OF_BALLOT, heap=14 << 20))


def _audited(consortium: Consortium) -> tuple[list[str], list[str]]:
    """What an auditor finds, and notes."""
    replay, found, notes = Replay(), list[str](), list[str]()
    for seqno, entry in enumerate(consortium.entries, 1):
        found += replay.entry(seqno, entry.writes, [entry.root])
        notes += replay.notes
    return found, notes


@pytest.mark.parametrize(("body", "rules"), [(SLOW, LESS_TIME), (COUNTS, OTHER_MEMORY)])
def test_a_ballot_that_no_auditor_repeats_spoils_no_ledger(body: str, rules: Rules) -> None:
    """Its member alone chooses it, and an honest service would be found at fault for ever."""
    consortium = opened(3, rules=rules)
    one, two, three = consortium.members
    proposal = consortium.propose({"name": "trigger_ledger_chunk"}, created_at=NOW + 1)
    evil = f"export const vote = () => {{ {body} return true; }};"
    assert [consortium.vote(proposal, *each).state for each in ((one, evil), (two,))] == ["Open", "Open"]
    assert consortium.vote(proposal, three).state == "Accepted"
    found, notes = _audited(consortium)
    assert found == []
    assert set(notes) == {
        f"proposal {proposal.id[:16]}: the ballot of member {one.id[:16]} depends on limits of time or"
        " memory, so only the service knows its vote"
    }


@pytest.mark.parametrize("vote", [True, None])
def test_a_service_states_no_other_vote_of_a_ballot_that_can_be_repeated(vote: bool | None) -> None:
    """Nor that it failed, also next to a ballot that nobody can repeat."""
    consortium = opened(5, rules=LESS_TIME)
    one, two, *others = consortium.members
    proposal = consortium.propose({"name": "trigger_ledger_chunk"}, created_at=NOW + 1)
    consortium.vote(proposal, one, f"export const vote = () => {{ {SLOW} return true; }};")
    consortium.vote(proposal, two, NO)
    for member in others:
        consortium.vote(proposal, member)
    assert _audited(consortium)[0] == []
    rows = consortium.entries[-1].writes[tables.PROPOSALS_INFO]
    info = json.loads(rows[proposal.id.encode()] or b"")
    info["final_votes"][two.id] = vote
    if vote is None:
        del info["final_votes"][two.id]
        info["vote_failures"][two.id] = {"reason": "Operation took too long to complete."}
    consortium.entries[-1].writes[tables.PROPOSALS_INFO] = {  # type: ignore[index]
        **rows, proposal.id.encode(): documents.write_json(info)
    }  # fmt: skip
    found, _ = _audited(consortium)
    assert len(found) == 1
    assert found[0].startswith(f"table {tables.PROPOSALS_INFO}: key ")


ROWS = {
    "no state": {"ballots": {}, "proposer_id": "x"},
    "no proposer": {"ballots": {}, "state": "Open"},
    "no ballots": {"proposer_id": "x", "state": "Open"},
    "ballots that are a text": {"ballots": "x", "proposer_id": "x", "state": "Open"},
    "a ballot that is a number": {"ballots": {"a": 1}, "proposer_id": "x", "state": "Open"},
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_proposals_that_are_something_else_are_found(name: str) -> None:
    """A service writes its tables as it likes: an auditor has a finding, and goes on."""
    consortium = opened(3)
    proposal = consortium.propose({"name": "trigger_ledger_chunk"}, created_at=NOW + 1)
    rows = {proposal.id.encode(): documents.write_json(ROWS[name])}
    consortium.entries[-1].writes = {**consortium.entries[-1].writes, tables.PROPOSALS_INFO: rows}
    consortium.vote(proposal, consortium.members[0])
    found, _ = _audited(consortium)
    assert "governance: proposal" in found[-1]
    assert "want text as proposer_id, state and ballots, got another type" in found[-1]


def test_an_acknowledgement_of_no_digest_is_found() -> None:
    """Likewise."""
    consortium = Consortium(1)
    consortium.activate()
    asked = consortium.entries[1].writes
    assert tables.MEMBER_ACKS in asked
    consortium.entries[1].writes = {
        **asked, tables.MEMBER_ACKS: dict.fromkeys(asked[tables.MEMBER_ACKS], b"{}")
    }  # fmt: skip
    assert any("of another state digest" in each for each in _audited(consortium)[0])


RENEWS = """
export const validate = () => ({valid: true, description: ""});
export const resolve = () => "Accepted";
export const apply = (proposal) => {
  const {from, days} = JSON.parse(proposal);
  ccf.network.generateNetworkCertificate(from, days);
};"""


@pytest.mark.parametrize("days", [10**8, 10**15])
def test_a_validity_beyond_all_dates_is_found(days: int) -> None:
    """Of a certificate that a service recorded for it, which its auditor holds against the request."""
    consortium = Consortium(1, constitution=RENEWS)
    consortium.activate()
    (member,) = consortium.members
    since = DATE.strftime("%Y%m%d%H%M%SZ")
    request = {"from": since, "days": 90}
    consortium.submit(member.sign(Kind.PROPOSAL, request, created_at=NOW + 1))
    signed = member.sign(Kind.PROPOSAL, {**request, "days": days}, created_at=NOW + 2)
    consortium.entries[-1].writes = {
        **consortium.entries[-1].writes,
        tables.COSE_HISTORY: {member.id.encode(): documents.write_json(b64.encode(signed))},
        tables.SERVICE_INFO: {tables.ONLY: consortium.get(tables.SERVICE_INFO)},
    }
    assert any("a certificate is valid for 1 to 36500 days" in each for each in _audited(consortium)[0])


@pytest.mark.parametrize(
    "since", ["99991231235959Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"]
)
def test_a_time_at_the_end_of_all_dates_is_no_fault_of_the_service(since: str) -> None:
    """A member's proposal is refused, and does not look like a bug."""
    consortium = Consortium(1, constitution=RENEWS)
    consortium.activate()
    signed = consortium.members[0].sign(Kind.PROPOSAL, {"from": since, "days": 1}, created_at=NOW + 1)
    with pytest.raises(ConstitutionFailed, match="want a year of 1950 to 9000"):
        consortium.submit(signed)


# The heap ends at every place within what it does.
FULL = """export const f = (size) => {
  const held = new ArrayBuffer(3);
  const fill = (left) => {
    const kept = [];
    try { for (;;) kept.push(new ArrayBuffer(size)); } catch {}
    try { for (;;) kept.push({}); } catch {}
    while (left-- > 0) kept.pop();
    try { JSON.stringify([held]); } catch {}
    try { JSON.stringify({a: [held, "x"]}, null, 2); } catch {}
    kept.length = 0;
  };
  for (let left = 0; left < 60; left++) fill(left);
};"""
ENGINES = """
import sys
from kluis.ledger.js import Engine, Limits
for size in (16, 48, 150):
    for more in range(5):
        with Engine(Limits(seconds=60.0, heap=(1 << 20) + 37 * more), plain=True) as engine:
            engine.evaluate("m", sys.argv[1])
            engine.call("m", "f", size)
"""


def test_a_ballot_without_memory_ends_no_node() -> None:
    """The engine's own JSON.stringify would keep an object, and freeing the engine would end the process."""
    done = subprocess.run(
        [sys.executable, "-c", ENGINES, FULL], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# Each leaves a little of its memory to what is compiled after it.
FILLS = """let spare = new ArrayBuffer(%d); const kept = globalThis.kept = [];
for (const size of [65536, 4096, 100]) try { for (;;) kept.push(new ArrayBuffer(size)); } catch {}
try { for (;;) kept.push({}); } catch {}
spare = null; export const vote = () => true;"""
VOTES = """
import sys
from kluis.ledger.governance.constitution import Constitution, Rules
from kluis.ledger.store import Store
constitution = Constitution(Store().begin(), Rules(), "")
for left in range(1000, 2000, 8):
    constitution.vote(sys.argv[1] % left, "{}", "0", "1", "2")
"""


def test_nothing_is_compiled_in_what_a_ballot_leaves() -> None:
    """With little memory, the compiler of modules reads what is not its own: no module follows a ballot."""
    done = subprocess.run(
        [sys.executable, "-c", VOTES, FILLS], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# Where the memory ends within a class, the engine keeps an object.
CLASSES = """const kept = globalThis.kept = new Array(9000).fill(0);
let left = 'y'.repeat(%d), i = 0, n = 1 << 20;
export const vote = () => {
  while (n >= 24) { try { kept[i] = 'x'.repeat(n); i++; } catch { n >>= 1; } }
  left = null;
  class B { m() { return 1; } } class C extends B { m() { return super.m(); } } new C().m();
  return true;
};"""
CLASS_VOTES = """
import dataclasses, sys
from kluis.ledger.governance.constitution import OF_BALLOT, Constitution, Rules
from kluis.ledger.store import Store
rules = Rules(ballot=dataclasses.replace(OF_BALLOT, heap=4 << 20, seconds=60.0))
constitution = Constitution(Store().begin(), rules, "")
found = {constitution.vote(sys.argv[1] % left, "{}", "0", "1", "2") for left in range(1200, 1480, 4)}
print(len(found), "no classes" in str(found))
"""


def test_a_class_without_memory_ends_no_node() -> None:
    """A ballot has no classes: freeing an engine whose class found no memory would end the process."""
    done = subprocess.run(
        [sys.executable, "-c", CLASS_VOTES, CLASSES], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 True\n", "")


@pytest.mark.parametrize("word", ["class", "cl\\u0061ss"])
def test_no_spelling_of_a_class_gets_past(word: str) -> None:
    """The keyword has no escapes; with one it is no keyword, and no ballot."""
    ballot = f"export const vote = () => {{ {word} A {{}} return true; }};"
    vote = Constitution(Store().begin(), Rules(), "").vote(ballot, "{}", "0", "1", "2")
    assert isinstance(vote, Failure)
    assert vote.reason.startswith("SyntaxError")


# Sources that fit, and whose compiler needs more memory for a byte than any other.
PROPERTIES = r"""for n in range(2030, 2090): vote(("/\p{L}/u;" * n + "a\n" * 3200)[:24500])"""
HEAVY = """
import sys
from kluis.ledger.governance.constitution import Constitution, Rules
from kluis.ledger.store import Store
constitution, found = Constitution(Store().begin(), Rules(), ""), set()
def vote(source):
    ballot = "export const vote=()=>true;" + source
    found.add(constitution.vote(ballot, "{}", "0" * 64, "1" * 64, "2" * 64))
exec(sys.argv[1])
print(len(found), "compiles in" in str(found))
"""


def test_a_short_source_that_compiles_into_much_ends_no_node() -> None:
    """A compiler without memory reads what is not its own, so what could need too much is not compiled."""
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, PROPERTIES], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert "True" in done.stdout


NAMES = [
    f"{first}{second}" for first in "bcghjklmpqrstuvwxyz" for second in string.digits + string.ascii_uppercase
]
MANY = ",".join(NAMES)
SHORT = {
    "properties": "/\\p{RGI_Emoji}/v;" * 180,
    "names in nested functions": f"(({MANY})=>{{ {'()=>{' * 1100}[{MANY}]{'}' * 1100} }});",
    "eval": f"let {MANY};" + "()=>eval();" * 1900,
    "eval in nested functions": "(a=>" * 3000 + "eval()" + ")" * 3000,
    "ranges that ignore case": "/" + "[a-\uffff]" * 2400 + "/iu;",
    "names with escapes": "let a;" + "$=>\\u{61};" * 2000,
}


@pytest.mark.parametrize("name", SHORT)
def test_what_compiles_into_much_is_refused_in_a_ballot_and_a_constitution(
    voting: Consortium, name: str
) -> None:
    """Nobody accepted either of them."""
    source = f"export const vote = () => true; {SHORT[name]}"
    assert len(source) <= 24 * 1024
    vote = Constitution(Store().begin(), Rules(), "").vote(source, "{}", "0", "1", "2")
    assert isinstance(vote, Failure)
    assert vote.reason.startswith("script: want source that compiles in")
    with pytest.raises(HostFault, match="want source that compiles in"):
        check(source + SHORT[name] * 4)


def test_a_constitution_that_no_call_compiles_is_refused_before_it_is_accepted() -> None:
    """Each call has the object ``ccf`` beside it: once accepted, no proposal could replace it."""
    source = "export const [validate, resolve, apply] = [1, 2, 3].map(() => () => ({valid: true}));"
    longest = source + "\n" * (128 * 1024 - 100 - len(source))
    for judge in (check, lambda text: evaluate(text, Rules())):
        with pytest.raises((HostFault, ScriptLimit), match="bytes of source, got"):
            judge(longest)
        judge(longest[:-8000])
    assert Constitution(Store().begin(), Rules(), longest[:-8000]).validate("{}") is None
