"""``kluis verify``, ``appraise`` and their kin, with a folder of configfs-tsm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.quotes import NOW, Kluis, ends
from tests.evidence.intel.forge import REPORT_DATA, TdxForge

TDX = TdxForge()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A folder as a TDX guest's kernel shows it, its collateral next to it, and the root."""
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "provider").write_text("tdx_guest\n", encoding="utf-8")
    (folder / "outblob").write_bytes(TDX.quote())
    (tmp_path / "report.collateral.json").write_bytes(TDX.collateral().to_json())
    (tmp_path / "root.pem").write_bytes(TDX.authority.root_pem())
    return folder


def test_what_inspect_shows_is_verified_and_appraised(kluis: Kluis, report: Path) -> None:
    """Each command that takes evidence takes the folder that inspect takes."""
    trust = ("--root", report.parent / "root.pem", "--now", NOW)
    policy = report.parent / "policy.toml"
    assert kluis("inspect", report).code == 0
    said = kluis("verify", report, *trust)
    assert said.code == 0, said.err
    assert "ok    came in               configfs-tsm report" in said.out.splitlines()
    assert kluis("policy", "init", report, "-o", policy, *trust).code == 0
    given = ("--report-data", REPORT_DATA.hex())
    said = kluis("appraise", report, "--policy", policy, *given, *trust, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["verdict"] in ("affirming", "warning")


def test_a_changed_report_is_refused(kluis: Kluis, report: Path) -> None:
    """A folder's evidence is verified as a file's is."""
    quote = bytearray(TDX.quote())
    quote[100] ^= 1
    (report / "outblob").write_bytes(quote)
    assert kluis("verify", report, "--root", report.parent / "root.pem", "--now", NOW).code == 4


def test_another_folder_is_refused(kluis: Kluis, report: Path) -> None:
    """A folder without a report is refused with what is missing, and a pipe in one is never read."""
    (report / "auxblob").mkdir()
    assert "auxblob: want a file, got another kind\n" in kluis("verify", report).err
    (report / "auxblob").rmdir()
    (report / "outblob").unlink()
    for command in ("verify", "inspect"):
        said = kluis(command, report)
        assert (said.code, said.err) == (
            2,
            f"kluis: error: {report}: want a folder of configfs-tsm, with provider and outblob, got no"
            " outblob\nkluis: hint: name a file; kluis collateral bundle makes one file of a vendor's"
            " documents\n" + ends("usage"),
        )
    os.mkfifo(report / "outblob")
    assert "outblob: want a file, got another kind\n" in kluis("verify", report).err
