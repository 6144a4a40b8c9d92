"""Files written whole or not at all, readable by their owner alone; and others', read within bounds."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from kluis.errors import FormatError, UnavailableError


def write(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, mode 0600; a crash leaves the old file or the new, never a part.

    Its folder is made, mode 0700, where there is none.

    Raises:
        OSError: it cannot be written. What was at ``path`` is still there, or ``data`` is, whole, where its
            folder alone could not be brought to the disk.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:  # an interrupt, too, leaves nothing behind; it is not kept from anybody
        with contextlib.suppress(FileNotFoundError):  # it came after the file had its place
            os.unlink(name)
        raise
    flush_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file without a name, and give it ``path``, mode 0644, once it is complete.

    Whatever happens before, a kill too, leaves what was at ``path`` and nothing next to it. (Where the
    file system has no nameless files, a kill leaves a hidden one.)

    Raises:
        OSError: it cannot be written.
    """
    hidden = path.parent / f".{path.name}.{os.urandom(8).hex()}"
    try:
        with _nameless(path.parent, hidden) as f:
            yield f
            f.flush()
            os.fchmod(f.fileno(), 0o644)
            if not hidden.exists():
                folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    # With a folder's descriptor Python calls linkat, which follows the link in /proc.
                    os.link(f"/proc/self/fd/{f.fileno()}", hidden.name, dst_dir_fd=folder)
                finally:
                    os.close(folder)
        os.replace(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)


def _nameless(folder: Path, hidden: Path) -> BinaryIO:
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return cast("BinaryIO", os.fdopen(descriptor, "r+b"))


def flush_folder(path: Path) -> None:
    """Bring the names in a folder to the disk, so that a power failure takes none away.

    Raises:
        OSError: they cannot be brought there.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path, most: int, folder: int | None = None) -> bytes:
    """Read a file from a folder that others write, too.

    Args:
        path: of a file itself: what others put in its place is not followed, and not waited for.
        most: bytes; no more than one byte past them is read.
        folder: an open descriptor of its folder, where that one is in others' hands, too.

    Raises:
        UnavailableError: it is not there, cannot be read, or is no regular file.
        FormatError: it is longer.
    """
    return drained(open_regular(path, os.O_RDONLY, folder), path, most)


def drained(descriptor: int, path: Path, most: int) -> bytes:
    """Read an open file to its end, and close it; ``path`` is for the error, which is :func:`read`'s.

    Raises:
        FormatError: it is longer than ``most`` bytes.
    """
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise FormatError(f"{path}: want at most {most} bytes, got more", code="too_large")
    return data


def open_regular(path: Path, flags: int, folder: int | None = None) -> int:
    """Open a regular file, and no link, FIFO, folder or device in its place; the descriptor is the caller's.

    Args:
        path: in a folder that others write, too.
        flags: ``os.open``'s. A file that ``O_CREAT`` makes has mode 0666 but for the umask's bits.
        folder: an open descriptor of its folder; then only the last name of ``path`` is looked up, in it.

    Raises:
        UnavailableError: it is not there, cannot be opened, or is something else.
    """
    try:
        descriptor = os.open(
            path if folder is None else path.name,
            flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            0o666,
            dir_fd=folder,
        )
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnavailableError(f"{path}: want a regular file, got a link") from None
        raise UnavailableError(f"{path}: cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnavailableError(f"{path}: want a regular file, got another thing")
    return descriptor
