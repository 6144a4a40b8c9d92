"""One process at a time has a machine's folder: the keeper of the machine, or who removes what one left."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOCK: Final = "lock"


@contextlib.contextmanager
def hold(where: Path) -> Iterator[None]:
    """Have a machine's folder, mode 0700, which is created if needed.

    Raises:
        BlockingIOError: another process has it.
    """
    while True:
        where.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = (where / LOCK).open("w")
        except FileNotFoundError:  # the folder was removed meanwhile
            continue
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(where / LOCK, lock.fileno()):
                yield
                return


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether a path still names a file that was opened by it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def remove(where: Path) -> None:
    """Remove a folder that this process has, its lock last: from then on another process may have it."""
    for path in where.iterdir():
        if path.name != LOCK:
            path.unlink(missing_ok=True)
    (where / LOCK).unlink()
    with contextlib.suppress(OSError):  # of another process by now
        where.rmdir()
