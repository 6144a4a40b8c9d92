"""Run pip as a separate program: the only way that wheels come in."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError, foreign
from kluis.tee.image.build.interpreter import Interpreter

TIMEOUT_SECONDS: Final = 3600
# If the build is killed, so is pip: PR_SET_PDEATHSIG, SIGKILL.
_RUN: Final = (
    "import ctypes, runpy, sys; ctypes.CDLL(None).prctl(1, 9); sys.path.append(sys.argv.pop(1)); "
    "sys.argv[0] = 'pip'; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
_ALWAYS: Final = (
    "--only-binary",
    ":all:",
    "--no-input",
    "--disable-pip-version-check",
    "--no-color",
    "--progress-bar",
    "off",
)
# "  Downloading duckdb-2.0.1-cp311-cp311-manylinux_2_28_x86_64.whl (24.9 MB)"
_FETCHES: Final = re.compile(r"\s*(?:Downloading|Using cached) (\S+ \([^()]+\))\Z")


def run(arguments: list[str], what: str, folder: Path, python: Interpreter) -> None:
    """Run one pip command with wheels only: no code of a package runs.

    pip is this environment's, and runs under the base layer's interpreter: its version and C library decide
    which wheels fit, whatever this machine has.

    Args:
        arguments: the command and its options.
        what: the purpose, for messages.
        folder: its working directory; a module called pip among the user's files is not run.
        python: the base layer's interpreter.

    Raises:
        UnavailableError: there is no pip, or it failed; contains its last output.
    """
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        raise UnavailableError(
            f"{what}: want pip, found none for {sys.executable}",
            hint="python -m ensurepip, or apt-get install python3-pip",
        )
    command, *rest = arguments
    home = str(Path(spec.origin).parent.parent)
    shown = sys.stderr.isatty()
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(
            [*python.command("-c", _RUN, home), command, *_ALWAYS, *(() if shown else ("--quiet",)), *rest],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if shown else subprocess.DEVNULL,
            stderr=complaints,
            text=True,
            errors="replace",
        ) as pip,
    ):
        teller = threading.Thread(target=_tell, args=(pip.stdout or (),), daemon=True)
        teller.start()
        try:
            pip.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{what}: pip gave no answer in {TIMEOUT_SECONDS} s") from error
        finally:
            pip.kill()  # of one that has ended, nothing
            teller.join()
        complaints.seek(0)
        output = complaints.read()
    if pip.returncode:
        raise UnavailableError(f"{what}: pip: {_last_words(output)}", hint=_hint(output))


def places(local: Path | None) -> list[str]:
    """Options that make pip use a folder of wheels in addition to its index."""
    return ["--find-links", str(local)] if local else []


def _tell(lines: Iterable[str]) -> None:
    """Show what is being fetched at a terminal, on one line that is erased at the end."""
    printed = False
    for line in lines:
        if fetched := _FETCHES.match(line.rstrip("\n")):
            room = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{foreign('  ' + fetched[1], room)}")
            sys.stderr.flush()
            printed = True
    if printed:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _last_words(text: str) -> str:
    words = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in words if line.startswith("ERROR: ")]
    return " / ".join(errors[-3:] or words[-1:] or ["no reason given"])[:1000]


def _hint(text: str) -> str:
    if "DO NOT MATCH THE HASHES" in text:
        return "a wheel is not the one that was locked; if the lock is old, remove it and build again"
    return "pip config debug shows which index it uses"
