"""``kluis ledger explain``: on real ledgers of CCF, and on a sample."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.quotes import Kluis
from tests.ledger.governance import real
from tests.ledger.governance.consortium import Party

USER = Party(55, encrypts=False)
CHANGE = {"actions": [{"name": "set_user", "args": {"cert": USER.certificate}}]}


@pytest.fixture
def ledger(kluis: Kluis, tmp_path: Path) -> Path:
    """A sample ledger; its constitution knows the action ``set_user``."""
    assert kluis("ledger", "sample", "--entries", "60", "--out", tmp_path / "ledger").code == 0
    return tmp_path / "ledger"


@pytest.fixture
def proposal(tmp_path: Path) -> Path:
    path = tmp_path / "proposal.json"
    path.write_text(json.dumps(CHANGE))
    return path


def test_a_proposal(kluis: Kluis, ledger: Path, proposal: Path) -> None:
    """Each row that it would change, as text and as JSON."""
    said = kluis("ledger", "explain", proposal, ledger)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == "public:ccf.gov.users.certs"
    assert USER.id in said.out

    value = json.loads(kluis("ledger", "explain", proposal, ledger, "--json").out)
    assert value["valid"] is True
    assert value["changes"][0] == {
        "table": "public:ccf.gov.users.certs", "key": USER.id, "before": None, "after": USER.certificate,
    }  # fmt: skip


def test_what_is_refused(kluis: Kluis, ledger: Path, tmp_path: Path) -> None:
    """An invalid proposal has exit code 6; files of another kind are errors."""
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"actions": [{"name": "no_such"}]}')
    said = kluis("ledger", "explain", wrong, ledger)
    assert said.code == 6
    assert said.out.startswith("FAIL  not a proposal: ")
    assert kluis("ledger", "explain", tmp_path / "none", ledger).code == 2
    said = kluis("ledger", "explain", "00" * 32, ledger)
    assert "there is none in the tables" in said.err
    assert "hint: kluis ledger status prints the open proposals" in said.err
    wrong.write_bytes(b"\xff")
    assert kluis("ledger", "explain", wrong, ledger).code == 2
    wrong.write_bytes(b"\xd2\x00")
    assert kluis("ledger", "explain", wrong, ledger).code == 6
    (ledger / "ledger_9000-9001.committed").write_bytes(b"")
    assert kluis("ledger", "explain", wrong, ledger).code != 0


def test_text_of_a_proposal_that_reads_as_another_line(kluis: Kluis, ledger: Path, tmp_path: Path) -> None:
    """What its proposer chose stays on its line, also where the constitution repeats it."""
    named = "ab\n    removes cd\nalso  nothing\x1b[2K"
    proposal = tmp_path / "proposal.json"
    user = {"name": "set_user", "args": {"cert": f"{named}\n{USER.certificate}"}}
    for action, said in (
        (user, "to   ab?    removes cd?also  nothing?[2K?-----BEGIN CERTIFICATE-----?"),
        ({"name": named}, ": no such action"),
    ):
        proposal.write_text(json.dumps({"actions": [action]}))
        lines = kluis("ledger", "explain", proposal, ledger).out.splitlines()
        assert any(said in line for line in lines), lines
        assert not any(line.startswith(("    removes", "also")) for line in lines)


def test_without_the_engine(
    kluis: Kluis, ledger: Path, proposal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that installs the extra is printed, and verify does without one check."""
    for name in [
        name for name in sys.modules if name.startswith(("jsbox", "kluis.ledger.js", "kluis.ledger.gov"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jsbox", None)
    monkeypatch.setattr("kluis.ledger.governance", None, raising=False)
    said = kluis("ledger", "explain", proposal, ledger)
    assert said.code == 7
    assert "ledger: want the package jsbox, got none" in said.err
    said = kluis("ledger", "verify", ledger)
    assert said.code == 0
    assert "note  replay              is not made: pip install 'kluis[ledger]'" in said.out


@real.needed
def test_a_real_ledger(kluis: Kluis, tmp_path: Path) -> None:
    """CCF's own constitution on its own tables; a recorded proposal is found by its id."""
    change = tmp_path / "change.json"
    change.write_text('{"actions": [{"name": "set_recovery_threshold", "args": {"recovery_threshold": 2}}]}')
    folder = real.VECTORS / "dr_double_sealed" / "ledger"
    said = kluis("ledger", "explain", change, folder)
    assert said.code == 0
    assert "are written for 3 participants, of whom 2 open the ledger secret" in said.out

    recorded = next(
        key.decode()
        for entry in real.entries("dr_double_sealed")
        for key, value in entry.writes.get("public:ccf.gov.proposals", {}).items()
        if value is not None and entry.seqno > 490
    )
    said = kluis("ledger", "explain", recorded, folder)
    assert said.out == "also  the service is Open already, and stays so\n"
