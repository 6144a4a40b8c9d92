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
