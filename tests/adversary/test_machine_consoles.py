"""A debug machine whose guest floods its console: the owner still reads it."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from kluis.tee.vm.machine import keeper, kept
from kluis.tee.vm.machine.console import LOG_BYTES, Console
from kluis.tee.vm.machine.kept import Settings


class _Machine:
    """A machine that runs until it is stopped, with a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._ended = threading.Event()

    def wait(self, _: float | None = None) -> int | None:
        return 0 if self._ended.is_set() else None

    def stop(self) -> None:
        self._ended.set()


@pytest.mark.parametrize("character", ["a", "\n", "\x1b"])
def test_a_full_console_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str) -> None:
    """``kluis vm console`` prints the last 256 KiB, as its guide says."""
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path))
    ours, theirs = socket.socketpair()
    console = Console(ours)
    with theirs:
        theirs.sendall(character.encode() * LOG_BYTES)
    console.join(30)
    machine = cast("Any", _Machine(console))
    where = kept.place("one")
    where.mkdir(mode=0o700)
    with keeper._listening(where) as listener, ThreadPoolExecutor(1) as pool:
        answering = pool.submit(keeper._keep, Settings("one", "/guest", debug=True), machine, listener, where)
        try:
            assert kept.console("one") == character * LOG_BYTES
        finally:
            with kept._connect("one") as connection:
                connection.send(json.dumps({"op": "stop"}).encode())
                stopping = answering.result(30)
        assert stopping is not None
        stopping.close()
