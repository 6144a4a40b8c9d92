"""Each template from an empty folder to an attested answer, with the wheels that people install."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.projects import template, templates
from kluis.projects.needs import missing_extras, missing_packages
from kluis.tee.process import linux, native
from tests.meta import installed

SECONDS = 1800.0  # of a command, which only ends hangs
HEAP_BYTES = 2 << 30
ANSWERS = {"room": "ok  evidence"}
"""What the last command prints; of all others that is the verdict on the evidence."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder with a platform of its own, and Kluis from its wheels next to it."""
    try:
        native.guardian()
    except UnavailableError as lack:
        pytest.skip(lack.message)
    if lacks := sorted(linux.missing(HEAP_BYTES)):
        pytest.skip(f"a project's policy accepts no missing protection: {lacks[0]} {linux.FIXES[lacks[0]]}")
    installed.borrowed(tmp_path)
    place = tmp_path / "projects"
    place.mkdir()
    yield place
    _run(["kluis", "platform", "stop"], place)


def _environment(folder: Path) -> dict[str, str]:
    path = f"{folder.parent / 'venv/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "KLUIS_HOME": str(folder.parent / "home")}


def _run(line: list[str], folder: Path) -> str:
    done = subprocess.run(
        line,
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"$ {shlex.join(line)}\n{done.stdout}{done.stderr}"
    return done.stdout


def _serve(line: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a server, and wait until it has printed how clients reach it."""
    out, errors = folder.parent / "served.out", folder.parent / "served.err"
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            line, cwd=folder, env=_environment(folder), stdout=stdout, stderr=stderr, start_new_session=True
        )
    until = time.monotonic() + SECONDS
    while "level" not in out.read_text():
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() < until, errors.read_text()
        time.sleep(0.2)
    return process


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", templates())
def test_from_an_empty_folder_to_an_attested_answer(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands that ``kluis new`` prints, at most five with it, end with an answer of verified code."""
    chosen = template(name)
    if lacking := (*missing_extras(chosen.extras), *missing_packages(chosen.packages)):
        pytest.skip(f"not installed here: {', '.join(lacking)}")
    begin, port, server = time.monotonic(), str(_free_port()), None
    commands = [f"kluis new cohort --template {name}", *chosen.next]
    assert len(commands) <= 5
    said = ""
    try:
        for command in commands:
            line = shlex.split(command.replace("project_name", "cohort").replace("8443", port))
            if "serve-app" in line:
                server = _serve(line, folder)
            else:
                said = _run(line, folder)
        seconds = time.monotonic() - begin
    finally:
        if server is not None:
            server.terminate()
            assert server.wait(SECONDS) == 0
    assert ANSWERS.get(name, "attested: affirming") in said
    with capsys.disabled():
        print(f"\n{name}: {len(commands)} commands, {seconds:.1f} s to the attested answer")
