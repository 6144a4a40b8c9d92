"""Files of a folder that only its owner can write: read safely, written atomically."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kluis import files
from kluis.errors import UnavailableError

LOCK: Final = ".lock"


def read(path: Path, most: int) -> bytes | None:
    """Read a file of at most ``most`` bytes; of a longer one, read one byte more.

    Returns None if there is no file, or it is a link, or another user owns or can write it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most + 1)


def write(path: Path, data: bytes) -> None:
    """Write a file atomically, mode 0600; create its folder, mode 0700.

    Raises:
        UnavailableError: the folder cannot be written.
    """
    try:
        files.write(path, data)
    except OSError as error:
        raise _unwritable(path.parent, error) from None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock a folder, creating it if needed; other processes that want the lock wait.

    Raises:
        UnavailableError: the folder cannot be written, or locked.
    """
    import fcntl  # which not every system has where evidence is verified

    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise _unwritable(path, error) from None
        yield


def _unwritable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path}: cannot be written: {error.strerror}", hint="name another folder with --cache"
    )
