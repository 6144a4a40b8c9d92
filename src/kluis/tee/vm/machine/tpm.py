"""A machine's vTPM: swtpm within the same walls as QEMU, its state encrypted.

swtpm gets its key by descriptor. The key depends on a secret and on the state's folder, so that a copy of the
folder, on this machine or on another, opens nothing.

Spec: swtpm(8).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from kluis.errors import UnavailableError, UsageError
from kluis.frozen import frozen
from kluis.tee.process import native
from kluis.tee.vm.machine import programs, sealed, walled, walls
from kluis.tee.vm.machine.walled import Walled

KEY_BYTES = 32
END_SECONDS = 60.0
INSIDE = "/state"
_LABEL = b"kluis vTPM state v1"


class Tpm:
    """A running vTPM, which serves one connection and ends with it."""

    def __init__(self, process: Walled, control: socket.socket, lock: int) -> None:
        self._process = process
        self._control = control
        self._lock = lock

    @classmethod
    def start(cls, state: Path, secret: bytes) -> Self:
        """Start it on a folder, which is created, mode 0700, if there is none.

        Args:
            state: the folder; as root it becomes the property of a separate user id.
            secret: 32 bytes. The key of the state is derived from it and from the folder's identity.

        Raises:
            UsageError: the secret has another length.
            UnavailableError: swtpm is not installed or ended, or another vTPM uses the folder.
        """
        process, control, lock = _start(state, secret, _arguments)
        return cls(process, control, lock)

    @property
    def pid(self) -> int:
        """Swtpm's pid on this machine."""
        return self._process.pid

    def control(self) -> int:
        """The descriptor of its control socket, for QEMU."""
        return self._control.fileno()

    def last_words(self) -> str | None:
        """Its error output if it has ended; None while it runs."""
        return None if self._process.wait(0) is None else self._process.words

    def stop(self) -> None:
        """End it; its state remains."""
        self._control.close()
        self._process.kill()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@frozen
class Powered:
    """A vTPM that runs without a machine.

    Attributes:
        pid: of swtpm on this machine.
        commands: the descriptor to send commands to, which the caller closes.
    """

    pid: int
    commands: int


@contextlib.contextmanager
def power(state: Path, secret: bytes) -> Iterator[Powered]:
    """Run a vTPM without a machine.

    As with a machine, it ends when the descriptor is closed. Then its registers are lost, and NV indices and
    keys remain.

    Args:
        state: as for :meth:`Tpm.start`.
        secret: as for :meth:`Tpm.start`.

    Raises:
        UsageError: the secret has another length.
        UnavailableError: swtpm is not installed or ended, or another vTPM uses the folder.
    """
    process, commands, lock = _start(state, secret, _power_line)
    try:
        yield Powered(process.pid, commands.detach())
        if process.wait(END_SECONDS) is None:
            raise UnavailableError("vTPM: does not end", code="tpm_silent")
    finally:
        commands.close()
        process.kill()
        os.close(lock)


def _start(
    state: Path, secret: bytes, arguments: Callable[[Sequence[int]], list[str]]
) -> tuple[Walled, socket.socket, int]:
    """Start swtpm: the process, this end of its socket, and the descriptor of the folder's lock."""
    if len(secret) != KEY_BYTES:
        raise UsageError(f"vTPM secret: want {KEY_BYTES} bytes, got {len(secret)}")
    swtpm, bwrap, *_ = (programs.find(name) for name in ("swtpm", *programs.WALLS))
    uid = walls.uid()
    lock = _take_folder(state, uid)
    ours, theirs = socket.socketpair()
    key = -1
    try:
        key = sealed.of_bytes("key", key_of(state, secret))
        process = walled.start(
            "swtpm",
            walls.Walls(swtpm, native.machine(), uid, writable={state: INSIDE}),
            arguments,
            [theirs.fileno(), key],
            bwrap=bwrap,
        )
    except BaseException:
        ours.close()
        os.close(lock)
        raise
    finally:
        theirs.close()
        if key >= 0:
            os.close(key)
    return process, ours, lock


def key_of(state: Path, secret: bytes) -> bytes:
    """The key for the state in a folder: 32 bytes, another one for each copy of the folder."""
    number = os.stat(state, follow_symlinks=False).st_ino
    return hmac.digest(secret, _LABEL + number.to_bytes(8, "big"), hashlib.sha256)


def _arguments(inside: Sequence[int]) -> list[str]:
    control, key = inside
    return _line(key, "--ctrl", f"type=unixio,clientfd={control}")


def _power_line(inside: Sequence[int]) -> list[str]:
    commands, key = inside
    return _line(key, "--fd", str(commands), "--flags", "not-need-init,startup-clear")


def _line(key: int, *more: str) -> list[str]:
    line = ["socket", "--tpm2", "--terminate", *more, "--tpmstate", f"dir={INSIDE},mode=0600"]
    return [*line, "--key", f"fd={key},format=binary,mode=aes-256-cbc", "--seccomp", "action=kill"]


def _take_folder(state: Path, uid: int) -> int:
    """Take the folder for ``uid``; return the descriptor of its lock."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"vTPM: {state}: another machine uses it", hint="kluis vm list", code="machine_runs"
            ) from None
        os.fchmod(folder, 0o700)
        if uid:
            for name in os.listdir(folder):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    with contextlib.suppress(FileNotFoundError):
                        os.chown(name, uid, uid, dir_fd=folder, follow_symlinks=False)
            os.fchown(folder, uid, uid)
    except BaseException:
        os.close(folder)
        raise
    return folder
