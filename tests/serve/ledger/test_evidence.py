"""A ledger's evidence: of its connections, and of its node, which the ledger's files keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kluis.cli.main import run
from kluis.serve.plan import Plan
from kluis.tee.platform.client import Platform
from tests.serve.ledger.clients import Client
from tests.serve.served import bring_images, serving_here


def _kluis(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, Any]:
    """Run a command with ``--json``; its exit code, and its answer if it has one."""
    capsys.readouterr()
    code = run([*map(str, argv), "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


def test_a_ledgers_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its certificate comes from the enclave under a policy; an auditor judges who signed its node's quote.

    The evidence states how often the witness hears of the log.
    """
    bring_images(tmp_path)
    client = Client.create(tmp_path)
    given = {"ledger": {**client.given["ledger"], "witness_seconds": 1.0}}
    with serving_here(Plan(services=("ledger",), state=tmp_path, port=0, given=given)) as running:
        platform = Platform.connect(start=False)
        root, collateral = tmp_path / "root.pem", tmp_path / "collateral.json"
        root.write_bytes(platform.root_pem())
        collateral.write_bytes(platform.collateral())
        state = platform.status()
        allowed = [f"--missing={name}" for name in sorted(state["missing"])]
        policy, other = tmp_path / "policy.toml", tmp_path / "other.toml"
        of = ("--purpose", "channel", "--protection", state["level"], "--root", root, *allowed)
        image = ("--image", tmp_path / "images/ledger/ledger.kluis")
        assert _kluis(capsys, "policy", "init", "-o", policy, *image, *of)[0] == 0
        assert _kluis(capsys, "policy", "init", "-o", other, "--image-id", "ab" * 32, *of)[0] == 0

        status = ("ledger", "status", "--url", running.addresses["ledger"], "--root", root)
        saved, wrong = tmp_path / "saved.pem", tmp_path / "wrong.pem"
        code, shown = _kluis(capsys, *status, "--policy", policy, "--save", saved)
        assert (code, shown["status"]) == (0, "Open")
        assert saved.read_text() == shown["certificate"] == (tmp_path / "service_cert.pem").read_text()
        assert _kluis(capsys, *status, "--policy", other, "--save", wrong)[0] not in (0, 70)
        assert not wrong.exists()

    verify = ("ledger", "verify", tmp_path / "ledger", "--service-cert", saved)
    code, report = _kluis(capsys, *verify, "--root", root, "--collateral", collateral)
    assert (code, report["ok"]) == (0, True)
    (node,) = [one["message"] for one in report["findings"] if "witness after" in one["message"]]
    assert "witness after 1000 ms; signed under" in node
    foreign = tmp_path / "foreign.pem"
    foreign.write_bytes(saved.read_bytes())
    code, report = _kluis(capsys, *verify, "--root", foreign, "--collateral", collateral)
    assert (code, report["ok"]) == (4, False)
    assert {one["check"] for one in report["findings"] if one["result"] == "FAIL"} == {"quotes"}
