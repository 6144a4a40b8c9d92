"""pip, run as a program of its own: the one way wheels come in."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError

TIMEOUT_SECONDS: Final = 3600
# If the build is killed, so is pip: PR_SET_PDEATHSIG, SIGKILL.
_RUN: Final = (
    "import ctypes, runpy, sys; ctypes.CDLL(None).prctl(1, 9); "
    "sys.argv[0] = 'pip'; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
_ALWAYS: Final = (
    "--only-binary",
    ":all:",
    "--no-input",
    "--disable-pip-version-check",
    "--no-color",
)
# A person at a terminal sees pip's own progress; a log does not.
_SILENT: Final = ("--quiet", "--progress-bar", "off")


def run(arguments: list[str], what: str, folder: Path) -> None:
    """Run one command of pip's with wheels alone: no code of a package runs.

    Args:
        arguments: the command and its options.
        what: what it is for, for messages.
        folder: where it runs; a module called pip beside the user's files is not pip.

    Raises:
        UnavailableError: there is no pip, or it did not succeed; carries its last words.
    """
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError(
            f"{what}: want pip, found none for {sys.executable}",
            hint="python -m ensurepip, or apt-get install python3-pip",
        )
    command, *rest = arguments
    shown = sys.stderr.isatty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RUN, command, *_ALWAYS, *(() if shown else _SILENT), *rest],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if shown else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{what}: pip gave no answer in {TIMEOUT_SECONDS} s") from error
    if done.returncode:
        raise UnavailableError(f"{what}: pip: {_last_words(done.stderr)}", hint=_hint(done.stderr))


def _last_words(text: str) -> str:
    words = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in words if line.startswith("ERROR: ")]
    return " / ".join(errors[-3:] or words[-1:] or ["no reason given"])[:1000]


def _hint(text: str) -> str:
    if "DO NOT MATCH THE HASHES" in text:
        return "a wheel is not the one that was locked; if the lock is old, remove it and build again"
    return "pip config debug shows which index it asks"
