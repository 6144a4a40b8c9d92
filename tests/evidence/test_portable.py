"""Evidence is verified on any system: without what only Linux has, and what runs enclaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.formats.kluis.evidence_file import EvidenceFile
from tests.evidence.forge import NONCE, Forge

PROGRAM = Path(__file__).with_name("portable.py")
ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
NOW = "2026-06-01T12:00:00Z"


def _run(what: object, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, str(what)],
        input=given,
        env={**os.environ, "KLUIS_CONFIG": "/nonexistent/kluis"},  # no trust store of another test's
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _commands(*argvs: tuple[object, ...]) -> list[tuple[int, str]]:
    """The exit code and the output of each command, all in one process."""
    done = _run("kluis", "".join(json.dumps([*map(str, argv)]) + "\n" for argv in argvs))
    assert done.returncode == 0, done.stdout + done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.skipif(
    not (VECTORS / "INDEX.json").exists(), reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS"
)
def test_every_recorded_piece_of_evidence() -> None:
    """All records end as expected, and no module was loaded that another system does not have."""
    done = _run(VECTORS)
    assert done.returncode == 0, done.stdout + done.stderr
    count, _, rest = done.stdout.splitlines()[-1].partition(" ")
    assert int(count) > 200
    assert rest == "records, 0 differ, loaded: []"


def test_the_commands(tmp_path: Path) -> None:
    """The commands of a verifier run there: inspect, verify, policy init, check and test, appraise."""
    forge = Forge()
    file = EvidenceFile(
        evidence=forge.quote(),
        runtime_data=forge.runtime,
        launch_configuration=forge.launch,
        collateral=forge.collateral().to_json(),
    )
    evidence, root, policy = tmp_path / "x.evidence", tmp_path / "root.pem", tmp_path / "policy.toml"
    evidence.write_bytes(file.encode())
    root.write_bytes(forge.authority.root_pem())
    (tmp_path / "cases.toml").write_text(
        f'[[case]]\nname = "a"\nevidence = "x.evidence"\nverdict = "affirming"\nnonce = "{NONCE.hex()}"\n'
    )
    trust = ("--root", root, "--now", NOW)
    wanted: tuple[tuple[tuple[object, ...], int], ...] = (
        (("inspect", evidence), 0),
        (("verify", evidence, "--now", NOW), 4),
        (("verify", evidence, *trust), 0),
        (("policy", "init", evidence, "-o", policy, *trust), 0),
        (("policy", "check", policy), 0),
        (("policy", "test", policy, tmp_path / "cases.toml", "--now", NOW), 0),
        (("appraise", evidence, "--policy", policy, "--nonce", NONCE.hex(), "--now", NOW), 0),
        (("appraise", evidence, "--policy", policy, "--nonce", "00", "--now", NOW), 5),
        (("trust", "list"), 0),
        (("trust", "add", "lab", root, "--level", "process"), 7),
        (("trust", "list"), 0),
    )
    found = _commands(*(argv for argv, _ in wanted))
    for (argv, code), (got, said) in zip(wanted, found, strict=True):
        assert got == code, f"{argv}\n{said}"


def test_what_is_taken_away_is_gone() -> None:
    """The program that runs the tests above takes away what it states: a command that needs it fails."""
    ((code, said),) = _commands(("platform", "status"))
    assert code != 0
    assert "taken away" in said
