"""The environments of CCF's own tools, and their programs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
STAMP = ".kluis-clients"
VERSIONS = ("6", "7")
SECONDS = 3600
"""Ends a hang: ten thousand receipts take minutes where others use the processors."""


def environment(version: str) -> Path | None:
    """The environment of a version, as ``scripts/setup.sh`` makes it; None where it is not made."""
    folder = Path(f"{ROOT / os.environ.get('KLUIS_VENV', '.venv')}-ccf{version}")
    return folder if (folder / STAMP).exists() else None


def needed(version: str) -> Path:
    """The environment of a version; a test without it is skipped."""
    found = environment(version)
    if found is None:
        pytest.skip(f"CCF's tools of version {version} are not installed: scripts/setup.sh clients")
    return found


def tool(version: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run one of CCF's programs."""
    return _run(str(needed(version) / "bin" / str(words[0])), *words[1:])


def on_a_terminal(version: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run one of CCF's programs that wants a terminal's width."""
    command = shlex.join([str(needed(version) / "bin" / str(words[0])), *map(str, words[1:])])
    return _run("script", "-qefc", command, "/dev/null")


def check(version: str, what: str, given: Any) -> Any:
    """Have ``checking.py`` do something in an environment; gives what it answers."""
    python = str(needed(version) / "bin" / "python")
    done = _run(python, "-B", "-W", "ignore", FOLDER / "checking.py", what, given=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _run(*words: object, given: str = "") -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(each) for each in words],
        env={**kept, "COLUMNS": "200"},
        input=given,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
