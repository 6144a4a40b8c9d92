"""Ports of a machine, on the host: each is one pipe for the machine's life, with one stream after another.

A port has no connections: neither side sees that the other has begun or ended a use of it. So a use begins
with a mark: 16 fixed bytes, which begin no record, and 16 random ones. The host sends it until the agent
returns it, and discards everything before that; the agent discards everything before a mark. From then on
records are numbered from 0.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from kluis.streams import Stream

MARK: Final = b"\xff\xff\xffkluis.port.1\n"
MARK_BYTES: Final = 32
AGAIN_SECONDS: Final = 2.0
OPEN_SECONDS: Final = 300.0
"""How long an agent may take to return a mark: it may wait for the rest of a record of the use before."""
CHUNK: Final = 1 << 16


class PortStream(Stream):
    """A use of a port. Shutting it down or closing it ends the use, and leaves the port as it is.

    Args:
        end: a duplicate of the port's end on the host, closed with this.
        release: called once, when it is closed.
    """

    def __init__(self, end: socket.socket, release: Callable[[], None]) -> None:
        self._woken_by = os.eventfd(0, os.EFD_CLOEXEC)
        super().__init__(end, wake=self._woken_by)
        self._release: Callable[[], None] | None = release
        self._closing = threading.Lock()

    def shutdown(self, how: int) -> None:
        """End the use: what reads or sends returns."""
        del how
        with self._closing:
            if self._release is not None:
                os.eventfd_write(self._woken_by, 1)

    def close(self) -> None:
        """Close it; safe to repeat."""
        with self._closing:
            release, self._release = self._release, None
            if release is None:
                return
            os.eventfd_write(self._woken_by, 1)
        super().close()
        release()


class Ports:
    """The ports of one machine.

    Args:
        end: returns a duplicate of the host's end of a port, by its number.
        count: of ports, numbered from 0.
        slowness: how many times longer than this machine that one may take.
    """

    def __init__(self, end: Callable[[int], socket.socket], count: int, *, slowness: float = 1.0) -> None:
        self._end = end
        self._count = count
        self._slowness = slowness
        self._used: set[int] = set()
        self._lock = threading.Lock()

    def connect(self) -> Stream:
        """Begin a use of a free port; the agent has agreed to it.

        Raises:
            OSError: none is free, or the agent does not answer.
        """
        with self._lock:
            free = min(set(range(self._count)) - self._used, default=None)
            if free is None:
                raise OSError(errno.EBUSY, f"all {self._count} ports are in use, and an enclave needs three")
            self._used.add(free)
        try:
            end = self._end(free)
            try:
                _agree(end, OPEN_SECONDS * self._slowness)
                return PortStream(end, lambda: self._used.discard(free))
            except BaseException:
                end.close()
                raise
        except BaseException:
            self._used.discard(free)
            raise


def _agree(end: socket.socket, seconds: float) -> None:
    """Send a mark until it is returned, and discard everything before."""
    end.setblocking(False)
    mark = MARK + os.urandom(MARK_BYTES - len(MARK))
    until = time.monotonic() + seconds
    poll = select.poll()
    poll.register(end, select.POLLIN)
    seen, left, again = b"", b"", 0.0
    while (now := time.monotonic()) < until:
        if not left and now >= again:
            left, again = mark, now + AGAIN_SECONDS
        with contextlib.suppress(BlockingIOError):  # full of what nobody reads now
            left = left[end.send(left) :] if left else left
        if poll.poll(AGAIN_SECONDS * 1000 if not left else 50):
            data = end.recv(CHUNK)
            if not data:
                raise OSError(errno.EPIPE, "the machine has ended")
            seen = (seen + data)[-MARK_BYTES - CHUNK :]
            if seen.endswith(mark) and not left:
                return
    raise OSError(errno.ETIMEDOUT, f"its agent returned no mark in {seconds:g} s")
