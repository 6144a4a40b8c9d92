"""The host's ends of a machine's ports: sockets in a folder, each for one host at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError, UsageError

LOCK: Final = ".lock"


class Listeners:
    """Listening sockets for QEMU, which accepts hosts on them.

    Args:
        names: of the ports.
        folder: where they are, by their names; None: a private folder, removed in the end.

    Attributes:
        sockets: for QEMU; to be closed here once it has them.
    """

    def __init__(self, names: Sequence[str], folder: Path | None) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="kluis-machine-") if folder is None else None
        self._folder = Path(self._own.name) if self._own is not None else folder or Path()
        self._names = tuple(names)
        self.sockets: list[socket.socket] = []
        try:
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.sockets.append(listener)
                listener.bind(str(self._folder / name))
                listener.listen(1)
        except BaseException:
            self.close()
            raise

    def connect(self, number: int) -> socket.socket:
        """A new connection to a port.

        Raises:
            UsageError: there is no such port.
            OSError: the machine has ended.
        """
        if not 0 <= number < len(self._names):
            raise UsageError(f"port: want 0..{len(self._names) - 1}, got {number}")
        return _connect(self._folder / self._names[number])

    def close(self) -> None:
        """Remove the sockets."""
        for each in self.sockets:
            each.close()
        for name in self._names:
            (self._folder / name).unlink(missing_ok=True)
        if self._own is not None:
            self._own.cleanup()


class Port(socket.socket):
    """A connection to a port, which no other host has until it is closed."""

    lock = -1

    def close(self) -> None:
        """Close the connection, and leave the port to others."""
        super().close()
        lock, self.lock = self.lock, -1
        if lock >= 0:
            os.utime(lock)
            os.close(lock)


def take(folder: Path, names: Sequence[str]) -> socket.socket:
    """Connect to a port that no host has: of these, the one that no host has had for the longest time.

    The guest opens a port again after each host, and a message that comes before that is lost.

    Raises:
        UnavailableError: all are taken, or the machine has ended.
    """
    for name in sorted(names, key=lambda name: _read_time_left(folder / (name + LOCK))):
        try:
            lock = os.open(folder / (name + LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise _ended(name, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            port = _connect(folder / name)
        except OSError as error:
            os.close(lock)
            raise _ended(name, error) from None
        os.utime(lock)  # a host that is killed leaves it so
        port.lock = lock
        return port
    raise UnavailableError(
        f"machine: all of its {len(names)} ports are taken; each enclave has 3 of them",
        hint="kluis vm start --ports N, with more",
        code="machine_ports",
    )


def _ended(name: str, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"machine: port {name}: {error.strerror}", hint="kluis vm list", code="machine_ended"
    )


def _read_time_left(lock: Path) -> int:
    """When the last host left a port, in nanoseconds; 0 if it had none."""
    try:
        return lock.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def in_use(folder: Path, names: Sequence[str]) -> bool:
    """Whether a host has one of these ports."""
    for name in names:
        lock = os.open(folder / (name + LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
    return False


def _connect(path: Path) -> Port:
    end = Port(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as failing:
        failing.callback(end.close)
        end.connect(str(path))
        failing.pop_all()
    return end
