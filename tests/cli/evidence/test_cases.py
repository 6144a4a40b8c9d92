"""``kluis policy check`` and ``test``: a policy of ``kluis appraise`` before it judges anyone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kluis.formats.kluis.evidence_file import EvidenceFile
from tests.cli.quotes import FORGE, NOW, Kluis, ends
from tests.evidence.forge import NONCE, Forge

KEYS = "protection: process is accepted, with keys made by the local root of trust, under a separate user id"
CASES = f"""
[[case]]
name = "this release"
evidence = "good.evidence"
verdict = "affirming"
nonce = "{NONCE.hex()}"
now = "{NOW}"

[[case]]
name = "another image"
evidence = "other.evidence"
verdict = "contraindicated"
failed = ["measurement", "runtime_image"]
nonce = "{NONCE.hex()}"
now = "{NOW}"

[[case]]
name = "another platform"
evidence = "foreign.evidence"
verdict = "refused"
code = "root_untrusted"
now = "{NOW}"
"""


def _file(forge: Forge, quote: bytes) -> bytes:
    return EvidenceFile(
        evidence=quote,
        runtime_data=forge.runtime,
        launch_configuration=forge.launch,
        collateral=forge.collateral().to_json(),
    ).encode()


@pytest.fixture
def cases(folder: Path) -> Path:
    """A folder with a policy, three pieces of evidence and their cases."""
    foreign = Forge()
    (folder / "good.evidence").write_bytes(_file(FORGE, FORGE.quote()))
    other = FORGE.quote(FORGE.body(mrenclave=bytes(32)))
    (folder / "other.evidence").write_bytes(_file(FORGE, other))
    (folder / "foreign.evidence").write_bytes(_file(foreign, foreign.quote()))
    (folder / "cases").mkdir()
    (folder / "cases.toml").write_text(CASES)
    return folder


def _test(kluis: Kluis, folder: Path, *more: object) -> tuple[int, list[str]]:
    said = kluis("policy", "test", folder / "policy.toml", folder / "cases.toml", *more)
    return said.code, said.out.splitlines() or said.err.splitlines()


def test_each_case_has_its_verdict(kluis: Kluis, cases: Path) -> None:
    """Evidence that the policy accepts, rejects, and cannot even judge."""
    code, lines = _test(kluis, cases)
    assert (code, lines) == (
        0,
        ["ok    this release", "ok    another image", "ok    another platform", "3 of 3 as they should be"],
    )


WRONG = {
    "a verdict": (
        'verdict = "affirming"',
        'verdict = "contraindicated"',
        "FAIL  this release: want contraindicated, got affirming",
    ),
    "a rule that fails": (
        'failed = ["measurement", "runtime_image"]',
        'failed = ["signer"]',
        "FAIL  another image: want failed signer, got measurement, runtime_image",
    ),
    "no rule that fails": (
        'failed = ["measurement", "runtime_image"]',
        "failed = []",
        "FAIL  another image: want failed none, got measurement, runtime_image",
    ),
    "a code": (
        'code = "root_untrusted"',
        'code = "chain_sig"',
        "FAIL  another platform: want refused with code chain_sig, got root_untrusted: PCK CRL issuer",
    ),
    "evidence that is refused": (
        'verdict = "refused"\ncode = "root_untrusted"',
        'verdict = "affirming"',
        "FAIL  another platform: want affirming, got root_untrusted: PCK CRL issuer",
    ),
    "evidence that is not refused": (
        'verdict = "affirming"',
        'verdict = "refused"',
        "FAIL  this release: want refused, got affirming",
    ),
    "another nonce": (
        f'nonce = "{NONCE.hex()}"',
        'nonce = "00"',
        "FAIL  this release: want affirming, got contraindicated (nonce)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_case_that_is_not_as_expected(kluis: Kluis, cases: Path, case: str) -> None:
    """Any difference is reported with both sides, and the exit code is that of a rejection."""
    old, new, line = WRONG[case]
    (cases / "cases.toml").write_text(CASES.replace(old, new, 1))
    code, lines = _test(kluis, cases)
    assert code == 6
    assert any(each.startswith(line) for each in lines), lines


BAD = {
    "no case": ("", 3, "want at least one [[case]]"),
    "no verdict": (CASES.replace('verdict = "affirming"', "", 1), 3, "case 1: verdict is not stated"),
    "an unknown key": (CASES.replace("failed", "fails"), 3, "case 2: 'fails' is not a key of a case"),
    "another type": (
        CASES.replace('["measurement", "runtime_image"]', '"measurement"'),
        3,
        "case 2: failed: want a list, got text",
    ),
    "an unknown verdict": (
        CASES.replace('"affirming"', '"affirm"'),
        2,
        "verdict: want one of contraindicated, warning, affirming, refused, got 'affirm'",
    ),
    "a code without a refusal": (
        CASES.replace('verdict = "affirming"', 'verdict = "affirming"\ncode = "x"'),
        2,
        "case 'this release': want failed for a verdict, and code if it must be refused",
    ),
    "a file that is missing": (
        CASES.replace("good.evidence", "none.evidence"),
        2,
        "none.evidence: cannot be read: No such file or directory",
    ),
    "a list of numbers": (
        CASES.replace('verdict = "affirming"', 'verdict = "affirming"\nroots = [1]'),
        2,
        "case 'this release': roots: want a list of files",
    ),
    "a nonce that is not hex": (
        CASES.replace(f'nonce = "{NONCE.hex()}"', 'nonce = "x"', 1),
        2,
        "case 'this release': nonce: want hex, got 'x'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_cases(kluis: Kluis, cases: Path, case: str) -> None:
    """Cases that cannot be run are an error, and not a case that failed."""
    text, code, message = BAD[case]
    (cases / "cases.toml").write_text(text)
    got, lines = _test(kluis, cases)
    assert (got, message in lines[0]) == (code, True), lines


def test_a_folder_of_cases(kluis: Kluis, cases: Path) -> None:
    """Every file of a folder is run, in the order of their names; an empty folder has no case."""
    said = kluis("policy", "test", cases / "policy.toml", cases / "cases")
    assert (said.code, said.err) == (
        3,
        f"kluis: error: {cases / 'cases'}: want a folder with files of cases (.toml), got none\n"
        "kluis: hint: each [[case]] states a name; with evidence and verdict for kluis appraise, or claims"
        " and permitted for a service\n" + ends("policy_cases"),
    )
    for name in ("b", "a"):
        text = CASES.split("\n\n")[0].replace("good.evidence", "../good.evidence")
        (cases / "cases" / f"{name}.toml").write_text(text.replace("this release", name))
    said = kluis("policy", "test", cases / "policy.toml", cases / "cases")
    assert (said.code, said.out) == (0, "ok    a\nok    b\n2 of 2 as they should be\n"), said.err


def test_the_time_of_cases_without_one(kluis: Kluis, cases: Path) -> None:
    """--now is the time of the cases that state none; today, the forged collateral has run out."""
    (cases / "cases.toml").write_text(CASES.replace(f'now = "{NOW}"\n', ""))
    assert _test(kluis, cases, "--now", NOW)[0] == 0
    assert _test(kluis, cases)[0] == 6


def test_check_names_what_a_policy_accepts(kluis: Kluis, cases: Path) -> None:
    """A policy that loads is described, with each thing in it that weakens it."""
    said = kluis("policy", "check", cases / "policy.toml")
    assert said.code == 0, said.err
    assert said.out == (
        f"accepts  process\nof       sgx\nroots    root.pem\nnote  {KEYS}\n"
        "note  no denylists: platforms that are known to be broken are accepted\n"
        f"{cases / 'policy.toml'}: loads\n"
    )
    text = (cases / "policy.toml").read_text()
    for old, new, note in (
        ("debug = false", "debug = true", "debug = true: the host of the enclave reads its memory"),
        ("nonce = true", "nonce = false", "freshness.nonce = false: old evidence is accepted"),
        ('["UpToDate"]', '["UpToDate", "OutOfDate"]', "statuses: platforms of OutOfDate are accepted"),
    ):
        changed = text.replace(old, new)
        if "debug" in old:
            changed = changed.replace('protection = ["process"]', 'protection = ["process", "none"]')
        (cases / "weak.toml").write_text(changed)
        said = kluis("policy", "check", cases / "weak.toml", "--json")
        assert said.code == 0, said.err
        assert note in json.loads(said.out)["notes"]


def test_check_of_a_draft(kluis: Kluis, cases: Path) -> None:
    """A policy with tables: a table that accepts any code is named."""
    root = cases / "root.pem"
    drafted = cases / "draft.toml"
    assert (
        kluis("policy", "init", cases / "good.evidence", "-o", drafted, "--root", root, "--now", NOW).code
        == 0
    )
    assert json.loads(kluis("policy", "check", drafted, "--json").out)["notes"] == [KEYS]
    lines = drafted.read_text().splitlines()
    any_code = ['measurements = "any"' if each.startswith("measurements") else each for each in lines]
    any_code = ['signers = "any"' if each.startswith("signers") else each for each in any_code]
    any_code = [
        'max_collateral_age_days = "any"' if each.startswith("max_collateral") else each for each in any_code
    ]
    any_code = ["denylists = false" if each.startswith("denylists") else each for each in any_code]
    drafted.write_text("\n".join(any_code))
    notes = json.loads(kluis("policy", "check", drafted, "--json").out)["notes"]
    assert notes[1:] == [
        "no denylists: platforms that are known to be broken are accepted",
        "max_collateral_age_days: collateral of any age is accepted, so a revocation may be missed",
        "[sgx]: any code is accepted",
    ]


@pytest.mark.parametrize(
    ("name", "text", "code", "message"),
    [
        ("p.toml", "version = 3\n", 3, "version"),
        ("p.txt", "version= 1.0;\nauthorizationrules{=>permit();};", 3, "got a policy of Azure Attestation"),
        ("none.toml", None, 2, "cannot be read: No such file or directory"),
    ],
)
def test_check_refuses(
    kluis: Kluis, cases: Path, name: str, text: str | None, code: int, message: str
) -> None:
    """What does not load is an error with its reason."""
    if text is not None:
        (cases / name).write_text(text)
    said = kluis("policy", "check", cases / name)
    assert (said.code, message in said.err) == (code, True), said.err


def test_check_reads_the_roots_of_a_policy(kluis: Kluis, cases: Path) -> None:
    """A root that is missing, or that is a quote, is found before the first evidence comes."""
    (cases / "root.pem").write_bytes(FORGE.quote())
    said = kluis("policy", "check", cases / "policy.toml")
    assert (said.code, "want a root (PEM), got SGX quote v3" in said.err) == (3, True), said.err
    (cases / "root.pem").unlink()
    assert kluis("policy", "check", cases / "policy.toml").code == 2
