"""The doctor's table, for people and for programs."""

from __future__ import annotations

import json

import pytest

from kluis.cli import main
from kluis.cli.machine import doctor
from kluis.tee.doctor import Finding, Part, State

LACK = Finding(
    part=Part.PROCESS, name="memfd_secret", state=State.MISSING, seen="function not implemented", fix="boot"
)
GOOD = Finding(part=Part.HARDWARE, name="TPM", state=State.OK, seen="/dev/tpmrm0, TPM 2")


def test_the_table_has_parts_lines_and_fixes() -> None:
    """Each part has a heading, each fix is below its finding, and the last line lists what is missing."""
    assert doctor.text([LACK, GOOD]) == (
        "process enclaves\n"
        "  missing  memfd_secret  function not implemented\n"
        "                         fix: boot\n"
        "\n"
        "hardware\n"
        "  ok       TPM           /dev/tpmrm0, TPM 2\n"
        "\n"
        "missing: memfd_secret"
    )


def test_lines_fit_80_columns_also_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is too long goes on below where its text began; a word that does not fit is never cut."""
    monkeypatch.setenv("COLUMNS", "80")
    long = Finding(
        part=Part.PROCESS,
        name="user namespaces",
        state=State.MISSING,
        seen=" ".join(["refused"] * 20),
        fix="sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 " + "x" * 90,
    )
    monkeypatch.setattr(doctor, "examine", lambda boot_seconds: [GOOD, long])
    assert main.run(["doctor", "--no-self-test"]) == 7
    shown = capsys.readouterr().out
    assert shown.split() == doctor.text([GOOD, long]).split()
    assert [line for line in shown.splitlines() if len(line) > 80] == [" " * 30 + "x" * 90]
    assert "\n  missing  user namespaces  refused refused" in shown
    assert "\n                            refused" in shown


def test_json_has_what_the_table_has(capsys: pytest.CaptureFixture[str]) -> None:
    """`kluis doctor --json` prints one object a line of the table, and exits with 0 or 7."""
    code = main.run(["doctor", "--json", "--boot-seconds", "5", "--no-self-test"])
    found = json.loads(capsys.readouterr().out)
    assert {row["part"] for row in found} == {
        "process enclaves",
        "virtual machines",
        "hardware",
        "left open to root",
    }
    assert code == (7 if any(row["state"] == "missing" for row in found) else 0)
