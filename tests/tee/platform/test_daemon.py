"""The platform's daemon: hosts that come when there is no memory left do not end it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kluis.tee.platform import daemon


class Listener:
    """A socket that first has no memory for a connection, and then one."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._tries = 0

    def accept(self) -> tuple[socket.socket, str]:
        self._tries += 1
        if self._tries == 1:
            raise MemoryError
        return self._end, ""


def test_no_memory_for_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not served, and takes no place; those that come later are."""
    unused: Any = None
    ours, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener: Any = Listener(ours)
    serving = daemon.Daemon(listener, unused, unused, frozenset(), tmp_path)

    def fail(**_: object) -> threading.Thread:
        raise MemoryError

    monkeypatch.setattr(threading, "Thread", fail)
    with host:
        serving._accept()
        serving._accept()
        assert host.recv(1) == b""  # closed
    assert serving._connections.total() == 0


@pytest.mark.parametrize("is_operator", [True, False])
def test_operators_find_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_operator: bool
) -> None:
    """However many connections users take, an operator gets one, to stop the platform for example."""
    unused: Any = None
    ours, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener: Any = Listener(ours)
    serving = daemon.Daemon(listener, unused, unused, frozenset(), tmp_path)
    for user in (1001, 1002, 1003):
        serving._connections[user] = daemon.MOST_EACH
    monkeypatch.setattr(daemon.shares, "is_operator", lambda _: is_operator)
    served = threading.Event()
    monkeypatch.setattr(serving, "_host", lambda *_: served.set())
    with ours, host:
        serving._accept()
        serving._accept()
        assert served.wait(60) if is_operator else host.recv(1) == b""


def test_the_platform_loads_what_it_runs() -> None:
    """Each page of its memory is secret, and takes time to get: what it does without is not imported."""
    code = "import sys; from kluis.tee.platform import daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    unneeded = {"concurrent", "kluis.installing", "logging", "shutil", "subprocess", "sysconfig", "tomllib"}
    assert unneeded & set(done.stdout.split()) == set()
