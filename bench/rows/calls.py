"""An empty ecall against the same bytes echoed over a unix socket by two plain Pythons."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import Harness, Row, duration
from bench.images import image
from kluis.host import load

CALLS = 2000
FRAME_BYTES = 64

ECHO = """
import socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
while data := peer.recv(4096):
    peer.send(data)
"""


def rows(take: Harness) -> list[Row]:
    """One row: the median of many calls, in rounds.

    Both pairs run on one core: otherwise the scheduler puts a pair on one or on two, where a wake-up costs
    five times as much, and the ratio only shows the scheduler's choice.
    """
    everywhere = os.sched_getaffinity(0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-I", "-S", "-c", ECHO, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as echo, load(image("empty")) as enclave, ours:
        theirs.close()
        frame = bytes(FRAME_BYTES)
        unpinned = median_of(enclave.nothing)
        for pid in (os.getpid(), echo.pid, enclave.pid):
            pin(pid)

        def echoed() -> None:
            ours.send(frame)
            ours.recv(4096)

        row = take.compare(
            "empty ecall, median",
            "the same bytes echoed over a unix socket by two plain Pythons",
            1.5,
            ours=lambda: median_of(enclave.nothing),
            theirs=lambda: median_of(echoed),
            also=lambda: {"an empty ecall where the scheduler put it": duration(unpinned)},
        )
        os.sched_setaffinity(0, everywhere)
        ours.shutdown(socket.SHUT_RDWR)
        echo.wait(10)
    return [row]


def pin(pid: int) -> None:
    """Keep a process, with all its threads, on the first core that this one may use."""
    core = {min(os.sched_getaffinity(0))}
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), core)


def median_of(call: Callable[[], object]) -> float:
    """The median seconds of one call, over CALLS of them after a few for warm-up."""
    clock = time.perf_counter_ns
    for _ in range(50):
        call()
    seconds = []
    for _ in range(CALLS):
        start = clock()
        call()
        seconds.append(clock() - start)
    return statistics.median(seconds) / 1e9
