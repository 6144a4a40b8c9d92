"""A folder that only its owner may write: opened without following links, with its owners and modes checked.

Anyone who may write the folder, a file in it, or a folder above it can choose the roots that its user trusts.
A folder above with the sticky bit, such as ``/tmp``, is accepted if its owner is: only the owner of such a
folder can replace another user's entry in it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
POSIX: Final = hasattr(os, "geteuid")


@contextmanager
def open_folder(folder: Path) -> Iterator[int | None]:
    """Open a folder: its descriptor, or None if it does not exist.

    Raises:
        UnavailableError: it is a link, or not a folder; another user may change it; it cannot be examined; or
            this system has no owners and modes that can be checked.
    """
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        raise UnavailableError(
            f"{folder}: cannot be examined: {error.strerror}",
            hint="set KLUIS_CONFIG to a folder that belongs to you",
            code="trust_unsafe",
        ) from None
    require_owners(folder)
    _check_above(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        got = "a link" if error.errno == errno.ELOOP or folder.is_symlink() else error.strerror
        raise UnavailableError(f"{folder}: want a folder, got {got}", code="trust_unsafe") from None
    try:
        check(os.fstat(descriptor), folder)
        yield descriptor
    finally:
        os.close(descriptor)


def require_owners(folder: Path) -> None:
    """Refuse a system whose files have no owners and modes that can be checked.

    Raises:
        UnavailableError: it is one.
    """
    if not POSIX:
        raise UnavailableError(
            f"{folder}: want a system whose files have owners and modes, got {os.name}",
            hint="name the root with --root instead",
            code="trust_unsafe",
        )


def read(name: str, folder: Path, descriptor: int, most: int) -> bytes:
    """Read a file of an open folder.

    Args:
        name: of the file.
        folder: its path, for errors.
        descriptor: of the folder.
        most: bytes.

    Raises:
        UnavailableError: it is a link, or not a regular file, or another user may change it.
        FormatError: it is longer.
    """
    from kluis import files  # without a store, no file is read

    path = folder / name
    file = files.open_regular(path, os.O_RDONLY, descriptor)
    try:
        check(os.fstat(file), path)
    except BaseException:
        os.close(file)
        raise
    return files.drain(file, path, most)


def check(status: os.stat_result, path: Path) -> None:
    """Refuse a file or folder of another user, or one that others may write.

    Raises:
        UnavailableError: it is one of them.
    """
    own = os.geteuid()
    if status.st_uid not in (0, own):
        raise UnavailableError(
            f"{path}: want owner {own}, got owner {status.st_uid}",
            hint="run this command as that user, or set KLUIS_CONFIG to a folder that belongs to you",
            code="trust_unsafe",
        )
    if status.st_mode & _OTHERS:
        raise UnavailableError(
            f"{path}: want a mode that only its owner may write, got {stat.S_IMODE(status.st_mode):04o}",
            hint=f"check what it contains, then: chmod go-w {path}",
            code="trust_unsafe",
        )


def _check_above(folder: Path) -> None:
    """Check every folder above, as the path names it and as it is without links."""
    if folder.parent.is_symlink():
        raise UnavailableError(f"{folder.parent}: want a folder, got a link", code="trust_unsafe")
    for path in dict.fromkeys((*folder.parents, *folder.parent.resolve().parents, folder.parent.resolve())):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            status = _without_writers(status)  # a link has no mode
        elif status.st_mode & stat.S_ISVTX and path != folder.parent:
            status = _without_writers(status)
        check(status, path)


def _without_writers(status: os.stat_result) -> os.stat_result:
    """The same, as if only the owner could write it."""
    return os.stat_result((status.st_mode & ~_OTHERS, *status[1:]))
