"""Write files atomically, readable only by their owner; read others' files within bounds."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from kluis.errors import FormatError, UnavailableError, UsageError


def write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, mode 0600; a crash leaves the old file or the new one, never a part.

    Its folder is created, mode 0700, if needed.

    Raises:
        OSError: it cannot be written. Either ``path`` is unchanged, or it has ``data`` completely and only
            its folder could not be flushed.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        replace(folder, path.name, data)
    finally:
        os.close(folder)


def replace(folder: int, name: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file in an open folder, as :func:`write` does; a link in its place is replaced.

    Args:
        folder: its descriptor, so that nobody can put another folder in its place.
        name: of the file.
        data: its content.
        mode: reduced by the umask.

    Raises:
        OSError: as for :func:`write`.
    """
    hidden = f".{name}.{os.urandom(8).hex()}"
    create(folder, hidden, data, mode)
    with _removed_on_error(folder, hidden):
        os.replace(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def create(folder: int, name: str, data: bytes, mode: int) -> None:
    """Create a file in an open folder; if it cannot be written completely, it is removed.

    Args:
        folder: its descriptor.
        name: of the file; a link in its place is not followed.
        data: its content, which is flushed to disk.
        mode: reduced by the umask.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, mode, dir_fd=folder)
    with _removed_on_error(folder, name), os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_new(path: Path, data: bytes) -> None:
    """Create a file in a folder that exists, mode 0600; flush it and its name to disk.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be written; it was removed, unless only its folder could not be flushed.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        create(folder, path.name, data, 0o600)
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _removed_on_error(folder: int, name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:  # an interrupt, too, leaves nothing behind; it is not kept from anybody
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file without a name, and link it as ``path``, mode 0644, once it is complete.

    If it fails or is killed before, ``path`` is unchanged and no other file is left. (If the file system has
    no unnamed files, a kill leaves a hidden one.)

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
    """Flush the names in a folder to disk, so that a power failure loses none.

    Raises:
        OSError: they cannot be flushed.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path, most: int, folder: int | None = None) -> bytes:
    """Read a file from a folder that others can write, too.

    Args:
        path: of a file itself: a link or FIFO in its place is not followed, and does not block.
        most: bytes; at most one byte more is read.
        folder: an open descriptor of its folder, if others can replace that, too.

    Raises:
        UnavailableError: it does not exist, cannot be read, or is not a regular file.
        FormatError: it is longer.
    """
    return drain(open_regular(path, os.O_RDONLY, folder), path, most)


def drain(descriptor: int, path: Path, most: int) -> bytes:
    """Read an open file to its end, and close it; ``path`` is for the error, as in :func:`read`.

    Raises:
        FormatError: it is longer than ``most`` bytes.
    """
    with os.fdopen(descriptor, "rb") as file:
        return _read(file, path, most)


@contextlib.contextmanager
def named(path: Path) -> Iterator[BinaryIO]:
    """Open a file that the user names; a link is followed.

    Raises:
        UsageError: it cannot be opened, or read while the ``with`` lasts.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def read_named(path: Path, most: int) -> bytes:
    """Read a file that the user names; a link is followed.

    Raises:
        UsageError: it cannot be read.
        FormatError: it is longer than ``most`` bytes.
    """
    with named(path) as file:
        return _read(file, path, most)


def _read(file: BinaryIO, path: Path, most: int) -> bytes:
    data = file.read(most + 1)
    if len(data) > most:
        raise FormatError(f"{path}: want at most {most} bytes, got more", code="too_large")
    return data


def open_regular(path: Path, flags: int, folder: int | None = None, mode: int = 0o666) -> int:
    """Open only a regular file, not a link, FIFO, folder or device; the caller owns the descriptor.

    Args:
        path: in a folder that others can write, too.
        flags: of ``os.open``.
        folder: an open descriptor of its folder; then only the last component of ``path`` is looked up, in
            it.
        mode: of a file that ``O_CREAT`` creates, reduced by the umask.

    Raises:
        UnavailableError: it does not exist, cannot be opened, or is another file type.
    """
    try:
        descriptor = os.open(
            path if folder is None else path.name,
            flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            mode,
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
