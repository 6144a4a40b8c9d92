"""``kluis policy lint``, ``eval`` and ``test``: what a person sees of an attestation service's policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kluis.cli.main import run

GOOD = """version=1.0;
authorizationrules{
  [type=="x-ms-sgx-svn", value>=3] => permit();
};
issuancerules{
  c:[type="x-ms-sgx-mrsigner"] => issue(type="signer", value=c.value);
};"""
CASES = """
[[case]]
name = "new enough"
permitted = true
token = { signer = "aa" }
[case.claims]
x-ms-sgx-svn = 3
x-ms-sgx-mrsigner = "aa"

[[case]]
name = "too old"
permitted = false
[case.claims]
x-ms-sgx-svn = 2
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a policy, claims and cases."""
    (tmp_path / "p.txt").write_text(GOOD)
    (tmp_path / "claims.json").write_text('{"x-ms-sgx-svn":2,"x-ms-sgx-mrsigner":"aa"}')
    (tmp_path / "cases.toml").write_text(CASES)
    return tmp_path


def _run(*argv: str) -> int:
    return run(list(argv))


def test_lint(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good policy is counted, and what it writes oddly is told with its place."""
    assert _run("policy", "lint", str(files / "p.txt")) == 0
    out = capsys.readouterr().out
    assert f"{files / 'p.txt'}:6:6: warning: type = ...: a comparison is written ==" in out
    assert out.endswith("version 1.0: 1 in authorizationrules, 1 in issuancerules\n")


def test_lint_points(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad one is shown: the line, and a mark under the column."""
    (files / "bad.txt").write_text(GOOD.replace("permit();", "permit()"))
    assert _run("policy", "lint", str(files / "bad.txt")) == 3
    err = capsys.readouterr().err
    assert "Offending symbol: '}' Line: '4', Column: '1'" in err
    assert "line 4:" in err
    assert "^" in err


def test_lint_of_the_other_kind(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy of ``kluis appraise`` is told to be one, instead of being read as what it is not."""
    for text in ("version = 2\n\n[accept]\ndebug = false\n", "# mine\nversion = 2  # now\n", "\n[accept]\n"):
        (files / "wanted.toml").write_text(text)
        assert run(["policy", "lint", str(files / "wanted.toml")]) == 2
        said = capsys.readouterr().err.replace("\n  ", " ")
        assert "wanted.toml: is a policy of kluis appraise, which no service reads\n" in said
        assert "hint: kluis appraise EVIDENCE --policy " in said


def test_eval(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each rule says whether it ran, and what it missed; a refusal is the exit code of a refusal."""
    argv = ("policy", "eval", str(files / "p.txt"), "--claims", str(files / "claims.json"))
    assert _run(*argv) == 6
    out = capsys.readouterr().out
    assert 'want [type=="x-ms-sgx-svn", value>=3], got x-ms-sgx-svn is 2' in out
    assert out.endswith("denied\n")
    (files / "claims.json").write_text('{"x-ms-sgx-svn":4,"x-ms-sgx-mrsigner":"aa"}')
    assert _run(*argv, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["permitted"], value["token"]) == (True, {"signer": "aa"})
    assert [rule["ran"] for rule in value["rules"]] == [True, True]


def test_cases(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases pass or fail one by one, and one failure is a failure."""
    argv = ("policy", "test", str(files / "p.txt"), "--cases", str(files / "cases.toml"))
    assert _run(*argv) == 0
    assert capsys.readouterr().out == "ok    new enough\nok    too old\n2 of 2 as they should be\n"
    (files / "cases.toml").write_text(CASES.replace('"aa" }', '"bb" }').replace("svn = 2", "svn = 9"))
    assert _run(*argv) == 6
    out = capsys.readouterr().out
    assert "FAIL  new enough: want token {'signer': 'bb'}, got {'signer': 'aa'}" in out
    assert "FAIL  too old: want denied, got permitted" in out
    assert out.endswith("0 of 2 as they should be\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "want at least one [[case]]"),
        ("case = 1", "want at least one [[case]]"),
        ("[[case]]\nname = 'x'\npermitted = true", "case 1: claims is not stated"),
        (CASES.replace("permitted = true", "permitted = 1"), "case 1: 'permitted' is not a key of a case"),
        (CASES.replace("token", "tokens"), "case 1: 'tokens' is not a key of a case"),
        ("[[", "is not TOML"),
    ],
)
def test_bad_cases(files: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str) -> None:
    """A case that does not say what it must is refused, with its number."""
    (files / "cases.toml").write_text(text)
    assert _run("policy", "test", str(files / "p.txt"), "--cases", str(files / "cases.toml")) == 3
    assert problem in capsys.readouterr().err
