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
    """A good policy is counted, and unusual syntax is reported with its place."""
    assert _run("policy", "lint", str(files / "p.txt")) == 0
    out = capsys.readouterr().out
    assert f"{files / 'p.txt'}:6:6: warning: type = ...: a comparison is written ==" in out
    assert out.endswith("version 1.0: 1 in authorizationrules, 1 in issuancerules\n")


def test_lint_of_what_comes_to_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accepted rules without effect are reported: a malformed query, no rule that permits."""
    (files / "p.txt").write_text("""version=1.2;
authorizationrules{
  c:[type=="log"] => add(type="n", value=JsonToClaimValue(JmesPath(c.value, "Events[?x].y | [0")));
};
issuancerules{
  c:[type=="log"] => issue(type="m", value=JmesPath(c.value, "[0]"));
};""")
    assert _run("policy", "lint", str(files / "p.txt")) == 0
    at = files / "p.txt"
    assert capsys.readouterr().out == (
        f"{at}:1:1: warning: no rule permits: every attestation is denied\n"
        f"{at}:3:59: warning: JmesPath: Invalid jmespath expression: Incomplete expression\n"
        "version 1.2: 1 in authorizationrules, 1 in issuancerules\n"
    )


def test_lint_points(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad one is shown: the line, and a mark under the column."""
    (files / "bad.txt").write_text(GOOD.replace("permit();", "permit()"))
    assert _run("policy", "lint", str(files / "bad.txt")) == 3
    err = capsys.readouterr().err
    assert "Offending symbol: '}' Line: '4', Column: '1'" in err
    assert "line 4:" in err
    assert "^" in err


def test_lint_of_the_other_kind(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy of ``kluis appraise`` is recognised as one, instead of being misread."""
    for text in ("version = 2\n\n[accept]\ndebug = false\n", "# mine\nversion = 2  # now\n", "\n[accept]\n"):
        (files / "wanted.toml").write_text(text)
        assert run(["policy", "lint", str(files / "wanted.toml")]) == 2
        said = capsys.readouterr().err.replace("\n  ", " ")
        assert "wanted.toml: is a policy of kluis appraise, which no service reads\n" in said
        assert "hint: kluis policy check " in said


def test_eval(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each rule's result is shown, and what it missed; a refusal has the exit code of a refusal."""
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


def test_values_are_spelt_as_policies_spell_them(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Truths are true and false, texts in quotes, and numbers not, in what is issued and what is missed."""
    argv = ("policy", "eval", str(files / "p.txt"), "--claims", str(files / "claims.json"))
    (files / "claims.json").write_text('{"x-ms-sgx-svn":3,"x-ms-sgx-is-debuggable":false}')
    policy = "version=1.0;\nauthorizationrules{ => permit(); };\nissuancerules{\n  %s\n};"
    rules = '[type=="x-ms-sgx-is-debuggable", value==true] => issue(type="bad", value=1);'
    (files / "p.txt").write_text(policy % f'{rules} => issue(type="good", value=true);')
    assert _run(*argv) == 0
    said = capsys.readouterr().out
    assert ", got x-ms-sgx-is-debuggable is false\n" in said
    assert said.endswith("token good = true\npermitted\n")
    for name, value, want in (
        ("x-ms-sgx-svn", "9", "want 3, got 9"),
        ("x-ms-sgx-svn", '"3"', "want 3, got '3'"),
        ("x-ms-sgx-is-debuggable", "true", "want false, got true"),
    ):
        (files / "p.txt").write_text(policy % f'=> issue(type="{name}", value={value});')
        assert _run(*argv) == 6
        said = " ".join(capsys.readouterr().err.split())
        assert f"claim '{name}' is the service's own: {want} kluis: hint: issue it under anot" in said


@pytest.mark.parametrize("text", ["eyJhbGciOiJSUzI1NiJ9.e30.AA", "[1]", '{"a": 1.5}'])
def test_what_are_no_claims(files: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """A token as it is, a list and a fraction are refused with what claims are."""
    (files / "claims.json").write_text(text)
    assert _run("policy", "eval", str(files / "p.txt"), "--claims", str(files / "claims.json")) in (2, 3)
    said = " ".join(capsys.readouterr().err.split())
    assert "hint: claims are a JSON object of names and values, as a token's are once decoded" in said


def test_cases(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases pass or fail one by one, and one failure is a failure."""
    argv = ("policy", "test", str(files / "p.txt"), str(files / "cases.toml"))
    assert _run(*argv) == 0
    assert capsys.readouterr().out == "ok    new enough\nok    too old\n2 of 2 as they should be\n"
    (files / "cases.toml").write_text(CASES.replace('"aa" }', '"bb" }').replace("svn = 2", "svn = 9"))
    assert _run(*argv) == 6
    out = capsys.readouterr().out
    assert "FAIL  new enough: want token {'signer': 'bb'}, got {'signer': 'aa'}" in out
    assert "FAIL  too old: want denied, got permitted" in out
    assert out.endswith("0 of 2 as they should be\n")


def test_cases_want_their_own_kind(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A case that expects the number 1 fails if the token has true."""
    policy = (
        'version=1.0; authorizationrules{=>permit();}; issuancerules{=> issue(type="t", value=true);'
        '=> issue(type="l", value=1); => issue(type="l", value=2);};'
    )
    (files / "p.txt").write_text(policy)
    case = '[[case]]\nname = "one"\npermitted = true\nclaims = {}\ntoken = { t = TRUE, l = [1, 2] }\n'
    for value, code in (("true", 0), ("1", 6), ("1.0", 6)):
        (files / "cases.toml").write_text(case.replace("TRUE", value))
        assert _run("policy", "test", str(files / "p.txt"), str(files / "cases.toml")) == code
    assert (
        "FAIL  one: want token {'t': 1.0, 'l': [1, 2]}, got {'t': True, 'l': [1, 2]}"
        in capsys.readouterr().out
    )


def test_a_case_of_no_claim(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that no claim has is reported with its case."""
    (files / "cases.toml").write_text(CASES.replace("svn = 2", "svn = 1.5"))
    assert _run("policy", "test", str(files / "p.txt"), str(files / "cases.toml")) == 2
    assert "case 'too old': claim 'x-ms-sgx-svn': want text, an integer, a boolean" in capsys.readouterr().err


def test_eval_is_as_the_service(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects are JSON text in policies, and a policy cannot issue what only the service issues."""
    (files / "claims.json").write_text('{"x-ms-runtime":{"a":1},"n":[[1],2]}')
    rules = 'c:[type=="x-ms-runtime"] => issue(type="copy", value=c.value); n:[type=="n"] => issue(claim=n);'
    policy = f"version=1.0; authorizationrules{{=>permit();}}; issuancerules{{{rules}}};"
    (files / "p.txt").write_text(policy)
    argv = ("policy", "eval", str(files / "p.txt"), "--claims", str(files / "claims.json"))
    assert _run(*argv, "--json") == 0
    assert json.loads(capsys.readouterr().out)["token"] == {"copy": '{"a":1}', "n": "[[1],2]"}
    (files / "p.txt").write_text(policy.replace("copy", "x-ms-runtime"))
    assert _run(*argv) == 0
    for name in ("iss", "x-ms-policy-hash"):
        (files / "p.txt").write_text(policy.replace("copy", name))
        assert _run(*argv) == 6
        assert f"claim '{name}' is the service's own: want absent" in capsys.readouterr().err


def test_lint_of_a_rule_alone(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rule without a version is not a TOML table, and is reported as a rule."""
    for text in ('[type=="x"] => permit();', "[value<3]\n=> permit();"):
        (files / "p.txt").write_text(text)
        assert _run("policy", "lint", str(files / "p.txt")) == 3
        assert "mismatched input '[' expecting a name" in capsys.readouterr().err
    for text in ("[policy]\n", '# a policy\n[["a b".c]] # more\n', "[x]"):
        (files / "p.txt").write_text(text)
        assert _run("policy", "lint", str(files / "p.txt")) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "want at least one [[case]]"),
        ("case = 1", "want at least one [[case]]"),
        ("[[case]]\nname = 'x'\npermitted = true", "case 1: claims is not stated"),
        (
            CASES.replace("permitted = true", "permitted = 1"),
            "case 1: permitted: want true or false, got an integer",
        ),
        ("case = [1, 2]", "case 1: want a table"),
        (CASES.replace("token", "tokens"), "case 1: 'tokens' is not a key of a case"),
        ("[[", "is not TOML"),
    ],
)
def test_bad_cases(files: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str) -> None:
    """A case that does not say what it must is refused, with its number."""
    (files / "cases.toml").write_text(text)
    assert _run("policy", "test", str(files / "p.txt"), str(files / "cases.toml")) == 3
    assert problem in capsys.readouterr().err
