"""Paths of a platform's state, socket and layers: the system's, or one user's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from pathlib import Path
from typing import NamedTuple

from kluis import parents
from kluis.errors import UnavailableError

LOCK_SECONDS = 2.0
ENDING_SECONDS = 30.0
"""How long a platform that was stopped or ended may keep its state locked."""
SEALED = "platform.sealed"
"""File of the secret sealed to a TPM, in the state."""
_CREDENTIALS = 12
OWN_HOME = "set KLUIS_HOME to a folder in which only you can write"


class Places(NamedTuple):
    """The paths of one platform.

    Attributes:
        state: secrets, authority, counters, ``launch.toml``; mode 0700.
        runtime: the socket and the layers' mount point.
    """

    system: bool
    state: Path
    runtime: Path

    @property
    def socket(self) -> Path:
        """The socket for hosts."""
        return self.runtime / "platform.sock"

    @property
    def layers(self) -> Path:
        """Mount point of the private tmpfs; empty for everyone except the platform."""
        return self.runtime / "layers"


SYSTEM = Places(True, Path("/var/lib/kluis"), Path("/run/kluis"))
"""The machine's platform, set up by root."""


def mine() -> Places:
    """The paths of the platform that this process would start: as root the machine's, else this user's.

    The environment variable ``KLUIS_HOME`` names another directory for it.
    """
    root, home = os.geteuid() == 0, os.environ.get("KLUIS_HOME")
    if home:
        return Places(root, Path(home) / "state", Path(home) / "run")
    if root:
        return SYSTEM
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "kluis"
    return Places(False, data / "state", data / "run")


def candidates() -> list[Places]:
    """The platforms a host may use, the machine's first; ``KLUIS_HOME`` names a single one."""
    return [mine()] if os.environ.get("KLUIS_HOME") else list(dict.fromkeys((SYSTEM, mine())))


def mark(path: Path) -> list[int]:
    """Distinguishes the file at ``path`` from any earlier or later one; empty if there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return []
    return [status.st_dev, status.st_ino, status.st_ctime_ns]


def lock_state(state: Path, *, create: bool) -> int:
    """Lock a platform's state: two platforms with one state would each count for themselves.

    Args:
        state: its directory.
        create: whether to create the lock's file, which is the platform's own.

    Returns:
        A descriptor, with which the lock ends.

    Raises:
        FileNotFoundError: there is no such file, and so no platform.
        UnavailableError: a platform has the state, and does not end.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    lock, until = os.open(state / "lock", flags, 0o600), time.monotonic() + ENDING_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.01)
                continue
            os.close(lock)
            raise UnavailableError(
                "platform: runs already, and does not answer",
                hint="kluis platform stop",
                code="platform_start",
            ) from None
        return lock


def unlink_own(path: Path, its: list[int], lock: str) -> None:
    """Remove the socket, unless the next platform has already created its own there.

    A process that starts a platform holds the lock until the platform answers or ended, and then removes the
    socket itself. So this does not wait for the lock for long: that process may wait for this one to end.
    """
    with contextlib.suppress(FileNotFoundError), open(lock, "rb") as lock_file:
        until = time.monotonic() + LOCK_SECONDS
        while mark(path) == its and time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if mark(path) == its:
                    path.unlink()
                return
            time.sleep(0.01)


def prepare(places: Places, uid: int, gid: int) -> None:
    """Create the directories, and refuse existing ones that others could have prepared.

    Raises:
        UnavailableError: a directory is another user's, or accessible to others, or another user may exchange
            it; with the command that fixes it.
    """
    for directory, mode, owner, group in (
        (places.state, 0o700, uid, gid),
        (places.runtime, 0o755, os.geteuid(), os.getegid()),
    ):
        parents.require(directory, OWN_HOME)
        if not directory.exists():
            directory.mkdir(mode=mode, parents=True)
            _give(directory, mode, owner, group)
        require_own(directory, directory.lstat(), owner, mode)
    places.layers.mkdir(mode=0o700, exist_ok=True)


def _give(directory: Path, mode: int, owner: int, group: int) -> None:
    """Give a new directory away: the one that was made, and not what a link in its place leads to."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise UnavailableError(
            f"{directory}: want the directory that was made, got another thing",
            hint=OWN_HOME,
            code="state_owner",
        ) from None
    try:
        require_own(directory, os.fstat(descriptor), os.geteuid(), mode)
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, owner, group)
    finally:
        os.close(descriptor)


def require_own(
    path: Path, status: os.stat_result, owner: int, mode: int = 0o700, hint: str | None = None
) -> None:
    """Refuse a folder that another user could have prepared, or can enter.

    Args:
        path: of the folder.
        status: its status, of the folder itself and not of a link's target.
        owner: the user id that it must have.
        mode: the most that it may permit.
        hint: what to do about another owner; None: chown.

    Raises:
        UnavailableError: it is another user's, or no folder (``state_owner``), or permits more
            (``state_mode``).
    """
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner:
        raise UnavailableError(
            f"{path}: owner: want {owner}, got {status.st_uid}",
            hint=hint or f"chown {owner} {path}",
            code="state_owner",
        )
    if status.st_mode & 0o777 & ~mode:
        raise UnavailableError(
            f"{path}: mode: want {mode:04o}, got {stat.S_IMODE(status.st_mode):04o}",
            hint=f"chmod {mode:04o} {path}",
            code="state_mode",
        )


def require_ours(places: Places, connection: socket.socket) -> None:
    """Refuse another user's platform: it would get images, and its root would be trusted as this machine's.

    Only root can make the system's folder. In a folder that ``KLUIS_HOME`` names, others may have been first.

    Args:
        places: of the platform.
        connection: to its socket.

    Raises:
        UnavailableError: neither root nor this user listens there: code ``state_owner``.
    """
    if places == SYSTEM:
        return
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS)
    uid = int.from_bytes(raw[4:8], "little")
    if uid not in (0, os.geteuid()):
        raise UnavailableError(
            f"platform {places.socket}: owner: want {os.geteuid()}, got {uid}",
            hint=OWN_HOME,
            code="state_owner",
        )
