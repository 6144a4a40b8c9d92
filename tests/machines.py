"""A warm machine for tests: its agent, a process next to the tests' platform and joined by an AF_UNIX stream.

``KLUIS_TEST_MACHINE`` names the socket of another machine's agent, which is used instead: then everything
crosses into a real one. ``KLUIS_TEST_SLOWNESS`` says how many times longer that one takes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kluis.tee.platform.client import Platform
from kluis.tee.remote import RemotePlatform

MACHINE = "KLUIS_TEST_MACHINE"
SLOWNESS = "KLUIS_TEST_SLOWNESS"
START_SECONDS = 120.0


@contextlib.contextmanager
def warm() -> Iterator[RemotePlatform]:
    """A machine that runs as long as the ``with`` lasts."""
    given = os.environ.get(MACHINE)
    if given:
        yield RemotePlatform(connecting(Path(given)), slowness=float(os.environ.get(SLOWNESS, "1")))
        return
    with Platform.connect().held(), agent() as path:
        yield RemotePlatform(connecting(path))


@contextlib.contextmanager
def agent(*options: str) -> Iterator[Path]:
    """An agent of the tests' platform, with ``options``; yields its socket."""
    with tempfile.TemporaryDirectory(prefix="kluis-agent-") as folder:
        path = Path(folder) / "agent.sock"
        with running(["--unix", str(path), *options]) as process:
            until = time.monotonic() + START_SECONDS
            while not path.exists() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            yield path


@contextlib.contextmanager
def running(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """An agent's process, ended with the ``with``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kluis.tee.vm.inside", *arguments], start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def connecting(path: Path) -> Callable[[], socket.socket]:
    """A function that opens a new stream to the agent at ``path``."""

    def connect() -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.connect(str(path))
        except BaseException:
            end.close()
            raise
        return end

    return connect
