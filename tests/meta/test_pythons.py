"""The code runs on the oldest Python we name and on the newest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.meta import installed
from tests.meta.tree import ROOT, SRC

NAMED = ("3.11", "3.13")


def _interpreter(version: str) -> str:
    if sys.version.startswith(version + "."):
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        pytest.skip(f"no python{version} on this machine")
    return found


@pytest.mark.parametrize("version", NAMED)
def test_every_module_compiles(version: str, tmp_path: Path) -> None:
    """Every module of the package is good syntax for both Pythons."""
    program = (
        "import pathlib, sys\n"
        "for path in pathlib.Path(sys.argv[1]).rglob('*.py'): compile(path.read_bytes(), str(path), 'exec')"
    )
    done = subprocess.run(
        [_interpreter(version), "-W", "error", "-c", program, str(SRC)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("version", NAMED)
def test_the_ground_runs(version: str) -> None:
    """The package, its errors and its digests import on both Pythons with nothing installed."""
    program = "import kluis, kluis.errors, kluis.hashes; print(kluis.__version__)"
    done = subprocess.run(
        [_interpreter(version), "-S", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(SRC.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("version", NAMED)
def test_the_suite_passes(version: str, tmp_path: Path) -> None:
    """An environment of the other Python installs Kluis, and the tests of every room pass in it."""
    if sys.version.startswith(version + "."):
        pytest.skip("the running suite is this one")
    venv = tmp_path / "venv"
    subprocess.run([_interpreter(version), "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    checkout = tmp_path / "kluis"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    install = [python, "-m", "pip", "install", "-q", "--find-links", installed.dist()]
    install += ["-e", f"{checkout}[rooms,services,console,fast,demo,dev]"]
    subprocess.run([str(word) for word in install], check=True)
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "--maxfail=9", "--deselect", "tests/meta/test_pythons.py"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
