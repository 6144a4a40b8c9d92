"""``kluis explain``: every code has a cause and a fix, and an unknown one gets the nearest."""

from __future__ import annotations

import json

import pytest

from kluis.appraisal.results.trustworthiness import Tier
from kluis.cli import codes
from kluis.cli.main import run
from kluis.evidence import denylist
from kluis.evidence.levels import MEANINGS, ProtectionLevel
from kluis.evidence.model import TcbStatus


def test_one_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A code is explained by its kind, its cause and its fix."""
    assert run(["explain", "ak_binding"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ak_binding", "cause", "fix"]
    assert run(["explain", "ak_binding", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == codes.find("ak_binding")._asdict()


def test_all_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a code, every one is listed under its group."""
    assert run(["explain"]) == 0
    said = capsys.readouterr().out
    for entry in codes.entries().values():
        assert f"  {entry.code}" in said
    assert run(["explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(codes.entries()) + len(codes.words())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("eval_number_low", "tcb_evaluation"),
        ("migratable", "migration"),
        ("simulated", "protection"),
        ("id_key", "signer"),
    ],
)
def test_another_name(name: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A situation that is reported here under another code is explained by that one; no such name is itself a
    code.
    """
    assert run(["explain", name]) == 0
    assert capsys.readouterr().out.startswith(code)
    assert name not in codes.entries()
    assert codes.find(name) == codes.find(code)


def test_a_product_line_that_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """What a verdict names by its id is explained, with whence it is known and since when."""
    for entry in denylist.entries():
        assert run(["explain", entry.id, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["code"], said["fix"]) == (entry.id, entry.fix)
        assert said["cause"] == (
            f"{entry.title}: {entry.effect}; published {entry.published}: {entry.source}"
        )


def test_capitals(capsys: pytest.CaptureFixture[str]) -> None:
    """A name in capitals is the same one, unless it is another's."""
    assert run(["explain", "TCB_STATUS"]) == 0
    assert capsys.readouterr().out.startswith("tcb_status ")
    assert codes.find("AccessDenied").code == "AccessDenied"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("ak_bindin", "kluis explain ak_binding"),
        ("§", "kluis explain lists every code and word"),
        ("milan-vcek", "kluis explain milan-vcek-seed"),
        ("OutOfDat", "kluis explain OutOfDate"),
        ("nonsense", "kluis explain lists every code and word"),
    ],
)
def test_an_unknown_code(code: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A code that nobody knows is a usage error, with the nearest one."""
    assert run(["explain", code]) == 2
    assert capsys.readouterr().err == (
        f"kluis: error: explain: no code or word {code!a}\nkluis: hint: {hint}\n"
        "kluis: code: usage (kluis explain usage)\n"
    )


def test_every_entry_is_a_sentence() -> None:
    """Causes and fixes are not empty and end without a period; every group has a heading."""
    for entry in codes.entries().values():
        assert entry.group in codes.GROUPS
        for text in (entry.cause, entry.fix):
            assert len(text) > 8, entry
            assert not text.endswith("."), entry


RULES = {"vm", "vtpm"}  # of the name of a level


@pytest.mark.parametrize(
    "word", [each for each in ("tier", "TCB", *Tier, *TcbStatus, *ProtectionLevel) if each not in RULES]
)
def test_a_word_of_a_verdict(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every tier, TCB status and protection level that is printed is explained, however it is spelt."""
    assert run(["explain", str(word)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == word
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [word, "means", "then"]
    assert run(["explain", str(word).upper(), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == codes.words()[word.lower()]._asdict()
    assert said["means"] + said["then"] in {"".join(each[2:]) for each in codes.words().values()}


def test_no_word_is_told_that_is_never_printed() -> None:
    """Words are those of the source, and the codes that have the name of one explain both."""
    printed = {str(each).lower() for each in (*Tier, *TcbStatus, *ProtectionLevel)}
    assert set(codes.words()) == printed | {"tier", "tcb"}
    assert set(codes.words()) & set(codes.entries()) == RULES


@pytest.mark.parametrize("word", sorted(RULES))
def test_a_level_that_a_rule_is_called_after(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The rule is explained, and the level after it."""
    assert run(["explain", word]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == word
    assert [line for line in lines if line.startswith("as a protection level")]
    assert run(["explain", word, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["fix"] == codes.entries()[word].fix
    assert said["level"] == codes.words()[word]._asdict()


def test_a_level_is_told_as_verdicts_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    """What a level keeps out, and what it does not, is said in one place."""
    assert run(["explain", "process", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    worth = MEANINGS[ProtectionLevel.PROCESS]
    assert worth.keeps_out in said["means"]
    assert all(each in said["then"] for each in worth.lets_in)


def test_a_word_of_two_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    """``none`` is a tier and a level: both are explained."""
    assert run(["explain", "none", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "as a verdict's word: no claim is made" in said["means"]
    assert (
        f"as a protection level: its keys are made by {MEANINGS[ProtectionLevel.NONE].keys}" in said["means"]
    )


def test_affirming_is_told_with_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """The tier proves less than its name suggests: its entry states that the level matters."""
    assert run(["explain", "affirming"]) == 0
    assert "protection level" in " ".join(capsys.readouterr().out.split())
