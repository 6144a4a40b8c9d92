"""A warm machine for tests: its agent, a process next to the tests' platform and joined by an AF_UNIX stream.

``KLUIS_TEST_MACHINE`` names the folder of a machine that ``kluis vm start`` started. Then every test that
starts enclaves starts them in that machine. All others are left out, and so are the differences that
``docs/reference/hardware.md`` lists.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kluis.tee import backends
from kluis.tee.platform.client import Platform
from kluis.tee.remote import RemotePlatform
from kluis.tee.vm.machine import kept, ondemand

MACHINE = "KLUIS_TEST_MACHINE"
NAME = "suite"
START_SECONDS = 120.0
STARTS = frozenset({"backend", "rehearsal_platform", "built", "image"})
"""Fixtures of tests that start enclaves."""
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "hardware.md"
ROW = re.compile(r"^\| `(tests/[^`]+)` \| (.+) \|$", re.MULTILINE)


def given() -> bool:
    """Whether this run's enclaves start in a machine."""
    return MACHINE in os.environ


def adopt() -> None:
    """Make the given machine one of this session's home, and the one that is used by default."""
    (kept.folder() / NAME).symlink_to(os.environ[MACHINE])
    os.environ[backends.MACHINE] = NAME
    ondemand.await_platform(NAME)


def differences() -> dict[str, str]:
    """The tests that are not run in a machine, and why: by file, or by file and function."""
    return dict(ROW.findall(PAGE.read_text("utf-8")))


def difference_of(nodeid: str) -> str | None:
    """The name by which a test is listed as different in a machine; None if it is not."""
    test = nodeid.partition("[")[0]
    return next((name for name in (test, test.partition("::")[0]) if name in differences()), None)


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that start enclaves, and skip those that are listed as different in a machine."""
    chosen = [item for item in items if STARTS & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
    for item in items:
        if (name := difference_of(item.nodeid)) is not None:
            item.add_marker(pytest.mark.skip(reason=f"in a machine: {differences()[name]}"))


@contextlib.contextmanager
def warm() -> Iterator[RemotePlatform]:
    """A machine that runs as long as the ``with`` lasts."""
    if given():
        yield ondemand.platform(NAME)
        return
    with Platform.connect().hold(), agent() as path:
        yield RemotePlatform(connecting(path))


@contextlib.contextmanager
def agent(*options: str) -> Iterator[Path]:
    """An agent of the tests' platform, with ``options``; yields its socket."""
    with tempfile.TemporaryDirectory(prefix="kluis-agent-") as folder:
        path = Path(folder) / "agent.sock"
        with running(["--unix", str(path), *options]) as process:
            until = time.monotonic() + START_SECONDS
            while not _listens(path) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            yield path


def _listens(path: Path) -> bool:
    """Whether a process listens there: a socket has its name a moment before."""
    with contextlib.suppress(OSError), contextlib.closing(connecting(path)()):
        return True
    return False


@contextlib.contextmanager
def running(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """An agent's process, ended with the ``with``."""
    process = subprocess.Popen([sys.executable, "-m", "kluis.tee.inside", *arguments], start_new_session=True)
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
