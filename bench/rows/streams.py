"""Calls over streams, as into a machine, against the same bytes through a stream of two plain Pythons."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness import Harness, Row, timed
from bench.images import image
from bench.rows.calls import FRAME_BYTES, median_of, pin
from kluis.host import load
from kluis.tee.platform.client import Platform
from kluis.tee.remote import RemotePlatform

BULK_BYTES = 16 << 20
START_SECONDS = 120.0

ECHO = """
import socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
while data := peer.recv(4096):
    peer.send(data)
"""
SINK = """
import socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
size = int(sys.argv[2])
while True:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        read = peer.recv_into(view)
        if not read:
            sys.exit()
        view = view[read:]
    peer.send(b"x")
"""


def rows(take: Harness) -> list[Row]:
    """Two rows: an empty ecall, and an argument of 16 MiB; each pair of processes runs on one core."""
    with Platform.connect().hold(), machine() as remote:
        return [_empty(take, remote), _bulk(take, remote)]


def _empty(take: Harness, remote: RemotePlatform) -> Row:
    everywhere = os.sched_getaffinity(0)
    with plain(ECHO) as (ours, echo), load(image("empty"), platform=remote) as enclave:
        frame = bytes(FRAME_BYTES)
        for pid in (os.getpid(), echo, enclave.pid):
            pin(pid)

        def echoed() -> None:
            ours.send(frame)
            ours.recv(4096)

        try:
            return take.compare(
                "empty ecall over a stream, median",
                "the same bytes echoed over the same kind of stream by two plain Pythons",
                3.0,
                ours=lambda: median_of(enclave.nothing),
                theirs=lambda: median_of(echoed),
            )
        finally:
            os.sched_setaffinity(0, everywhere)


def _bulk(take: Harness, remote: RemotePlatform) -> Row:
    data = os.urandom(BULK_BYTES)
    with plain(SINK, str(BULK_BYTES)) as (ours, _), load(image("bulk"), platform=remote) as enclave:

        def sent() -> None:
            ours.sendall(data)
            ours.recv(1)

        return take.compare(
            "ecall with an argument of 16 MiB over a stream",
            "16 MiB through the same kind of stream between two plain Pythons",
            1.5,
            ours=lambda: timed(lambda: enclave.size(data)),
            theirs=lambda: timed(sent),
        )


@contextlib.contextmanager
def plain(code: str, *arguments: str) -> Iterator[tuple[socket.socket, int]]:
    """A plain Python at the other end of a stream socket; yields this end, and its pid."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    command = [sys.executable, "-I", "-S", "-c", code, str(theirs.fileno()), *arguments]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as other, ours:
        theirs.close()
        try:
            yield ours, other.pid
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            other.wait(10)


@contextlib.contextmanager
def machine() -> Iterator[RemotePlatform]:
    """The agent of a machine, next to the benchmark's platform."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.sock"
        agent = subprocess.Popen([sys.executable, "-m", "kluis.tee.inside", "--unix", str(path)])
        try:
            until = time.monotonic() + START_SECONDS
            while not path.exists() and time.monotonic() < until:
                time.sleep(0.01)
            yield RemotePlatform(connecting(path))
        finally:
            agent.kill()
            agent.wait()


def connecting(path: Path) -> Callable[[], socket.socket]:
    """A function that opens a stream to the agent."""

    def connect() -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.connect(str(path))
        return end

    return connect
