"""``kluis vm attest``: what a machine proves by itself, under the root that was named and no other."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.cli.main import run
from kluis.cli.vm import machines
from kluis.tee import backends
from tests.authority.amd.chips import GUEST, chip
from tests.evidence.machine import MachineForge


@pytest.fixture
def forge(monkeypatch: pytest.MonkeyPatch) -> MachineForge:
    """A machine whose platform answers with forged collateral."""
    made = MachineForge(chip(now=datetime.now(UTC)))

    class Platform:
        """Only what the command needs."""

        def collateral(self) -> bytes:
            return made.collateral().to_json()

    monkeypatch.setattr(backends, "of_machine", lambda _: Platform())
    return made


def attest(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    """Exit code, what it printed, and what it printed of errors."""
    capsys.readouterr()
    code = run(["vm", "attest", "one", *map(str, words), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_what_it_proves(forge: MachineForge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Level, measurement and root are printed; each part is written as its TEE made it."""
    (tmp_path / "ark.pem").write_bytes(forge.processor.root_pem())

    code, value, error = attest(capsys, "--root", tmp_path / "ark.pem", "-o", tmp_path / "parts")

    assert code == 0, error
    assert (value["kind"], value["level"]) == ("snp", "vm")
    assert value["measurement"] == f"sha384:{GUEST.hex()}"
    assert value["root"] == forge.configuration().root.hex()
    written = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert written.keys() == {"report", "certificates", "crl", "runtime.json"}
    assert written["runtime.json"] == forge.configuration().runtime_data()


def test_another_root(forge: MachineForge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a root that was named, only this user's own processor is trusted."""
    code, _, error = attest(capsys)

    assert code == 4
    assert json.loads(error)["error"].startswith("endorsement: ")
    assert not list(tmp_path.iterdir())


def test_no_endorsement(
    forge: MachineForge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that no TEE endorses is reported as such."""
    plain = dataclasses.replace(forge.collateral(), endorsement=None)
    monkeypatch.setattr(forge, "collateral", lambda *_: plain)

    code, _, error = attest(capsys)

    assert code == 4
    assert "want an endorsement of its platform's root, got none" in json.loads(error)["error"]


def test_rows_of_a_machine_are_for_people(
    forge: MachineForge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Debug is on or off, as in ``kluis verify``, and the number of ports has its unit."""
    (tmp_path / "ark.pem").write_bytes(forge.processor.root_pem())
    assert run(["vm", "attest", "one", "--root", str(tmp_path / "ark.pem")]) == 0
    assert ["debug", "off"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    machines._show({"ports": 12, "debug": True, "missing": []})
    assert capsys.readouterr().out.splitlines() == [
        "ports    12 streams; an enclave takes three",
        "debug    on",
        "missing  nothing",
    ]


def test_a_terminal_has_room_for_a_machine(
    forge: MachineForge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a screen of 80 columns, only a digest that is longer than that is on a wider line, by itself."""
    (tmp_path / "ark.pem").write_bytes(forge.processor.root_pem())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    assert run(["vm", "attest", "one", "--root", str(tmp_path / "ark.pem")]) == 0
    wide = [line.split() for line in screen.getvalue().splitlines() if len(line) > 80]
    assert wide == [[f"sha384:{GUEST.hex()}"]]
