"""Run the command line in this process; a folder with a quote and all its documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.cli import render
from kluis.cli.main import run
from kluis.errors import UnavailableError
from kluis.tee.process import native
from tests.cli.quotes import FORGE, Kluis, Said, write_policy


@pytest.fixture(autouse=True)
def text() -> None:
    """Reset the output settings before each test."""
    render.reset()


@pytest.fixture
def kluis(capsys: pytest.CaptureFixture[str]) -> Kluis:
    """Run a command line."""

    def said(*argv: object) -> Said:
        code = run([str(each) for each in argv])
        return Said(code, *capsys.readouterr())

    return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A quote, its documents, the root and a policy."""
    (tmp_path / "quote.bin").write_bytes(FORGE.quote())
    (tmp_path / "quote.bin.runtime.json").write_bytes(FORGE.runtime)
    (tmp_path / "quote.bin.launch.json").write_bytes(FORGE.launch)
    (tmp_path / "quote.bin.collateral.json").write_bytes(FORGE.collateral().to_json())
    (tmp_path / "root.pem").write_bytes(FORGE.authority.root_pem())
    write_policy(tmp_path / "policy.toml")
    return tmp_path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for a separate platform, which is stopped at the end."""
    try:
        native.guardian()
    except UnavailableError as lack:
        pytest.skip(lack.message)
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path))
    yield tmp_path
    run(["platform", "stop"])
