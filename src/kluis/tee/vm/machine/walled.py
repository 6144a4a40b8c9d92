"""One process within walls: started, watched and ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kluis.errors import UnavailableError, foreign
from kluis.tee.process import linux
from kluis.tee.vm.machine import walls as building
from kluis.tee.vm.machine.walls import LIFELINE, Walls

ERROR_BYTES = 16 << 10
START_SECONDS = 120.0
END_SECONDS = 60.0
DEPTH = 8
_HIGH = 256
_spawner = ThreadPoolExecutor(1, thread_name_prefix="kluis-machine")
"""bubblewrap ends with the thread that started it. This one lives as long as the process."""


class Walled:
    """A process within walls.

    Attributes:
        name: for messages.
        pid: of the program, on this machine; 0 until it is known.
    """

    def __init__(self, name: str, first: int, lifeline: socket.socket, errors: int) -> None:
        self.name = name
        self.pid = 0
        self._pidfd = os.pidfd_open(first)
        weakref.finalize(self, os.close, self._pidfd)
        self._first = first
        self._lifeline = lifeline
        self._status: int | None = None
        self._words = b""
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._drain, args=(errors,), daemon=True)
        self._reader.start()

    def _drain(self, errors: int) -> None:
        with open(errors, "rb", buffering=0) as pipe:
            while chunk := pipe.read(4096):
                self._words = (self._words + chunk)[-ERROR_BYTES:]

    @property
    def words(self) -> str:
        """Its last error output, one line."""
        return foreign(self._words.decode("utf-8", "replace").strip().replace("\n", "; "), 2000)

    def await_ready(self, program: Path, *, library: bool, seconds: float) -> None:
        """Wait until it executes ``program`` with the preloaded library in place, and find its pid.

        Raises:
            UnavailableError: it ended before, or did not start in time.
        """
        until = time.monotonic() + seconds
        if library:
            lifeline = self._lifeline.fileno()
            ready = linux.readable(lifeline, self._pidfd, seconds=seconds)
            if lifeline not in ready or self._lifeline.recv(1) != b"r":
                raise self._not_started(seconds, lost=bool(ready))
        while not self.pid:
            if self.wait(0.001) is not None or time.monotonic() > until:
                raise self._not_started(seconds, lost=False)
            self.pid = self._find(program)

    def _find(self, program: Path) -> int:
        """The pid of the first process below that executes the program; 0 if there is none yet."""
        pid = self._first
        for _ in range(DEPTH):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe") == str(program):
                    return pid
            below = _children(pid)
            if not below:
                return 0
            pid = below[0]
        return 0

    def _not_started(self, seconds: float, *, lost: bool) -> UnavailableError:
        status = self.wait(END_SECONDS if lost else 0)
        self.kill()
        why = self.words or (f"not started in {seconds:.0f} s" if status is None else f"status {status}")
        return UnavailableError(f"machine: {self.name}: {why}", code="machine_ended")

    def wait(self, seconds: float | None) -> int | None:
        """Wait for its end.

        Returns:
            Its exit status, 128 and the signal's number if a signal ended it; None after ``seconds``.
        """
        if self._status is None and not self._has_ended(seconds):
            return None
        with self._lock:
            if self._status is None:
                _, status = os.waitpid(self._first, 0)
                code = os.waitstatus_to_exitcode(status)
                self._reader.join(END_SECONDS)
                self._lifeline.close()
                self._status = code if code >= 0 else 128 - code
        return self._status

    def _has_ended(self, seconds: float | None) -> bool:
        return bool(linux.readable(self._pidfd, seconds=None if seconds is None else max(seconds, 0)))

    def kill(self) -> None:
        """End it, and everything in its namespace, now."""
        if self._status is not None:
            return
        with contextlib.suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_RDWR)
        # Its first child is the first process of the namespace, and its end is that of all: the process that
        # waits for it ends then. If it is not there yet, it ends with that process.
        for pid in _children(self._first)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not self._has_ended(END_SECONDS if _children(self._first) else 0):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.wait(END_SECONDS)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


def _inheritable() -> list[int]:
    descriptors = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.get_inheritable(int(name)):
                descriptors.append(int(name))
    return descriptors


def start(
    name: str,
    walls: Walls,
    arguments: Callable[[Sequence[int]], list[str]],
    descriptors: Sequence[int],
    *,
    bwrap: Path,
    seconds: float = START_SECONDS,
) -> Walled:
    """Start a program within ``walls``.

    Args:
        name: for messages.
        walls: around it.
        arguments: from the numbers that ``descriptors`` have inside.
        descriptors: that it inherits; the caller closes its own.
        bwrap: bubblewrap.
        seconds: how long it may take.

    Raises:
        UnavailableError: it ended at once; with its error output.
    """
    inside = [building.FIRST_FD + index for index in range(len(descriptors))]
    ours, theirs = socket.socketpair()
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    none = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    wanted = [(none, 0), (none, 1), (error_write, 2), (theirs.fileno(), LIFELINE)]
    wanted += zip(descriptors, inside, strict=True)
    line = building.command(walls, arguments(inside), bwrap=bwrap)
    high: list[int] = []
    try:
        # Moved up first: a source must not be another's target.
        high = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _HIGH) for source, _ in wanted]
        actions: list[tuple[int, ...]] = [
            (os.POSIX_SPAWN_DUP2, up, target) for up, (_, target) in zip(high, wanted, strict=True)
        ]
        # What this process inherited without the flag that closes it does not belong to the machine.
        actions += [
            (os.POSIX_SPAWN_CLOSE, other)
            for other in _inheritable()
            if other >= building.FIRST_FD + len(descriptors)
        ]
        pid = _spawner.submit(os.posix_spawn, line[0], line, {}, file_actions=actions).result()
    except BaseException:
        ours.close()
        os.close(error_read)
        raise
    finally:
        theirs.close()
        for descriptor in (error_write, none, *high):
            os.close(descriptor)
    made = Walled(name, pid, ours, error_read)
    try:
        made.await_ready(walls.program, library=walls.library is not None, seconds=seconds)
    except BaseException:
        made.kill()
        raise
    return made
