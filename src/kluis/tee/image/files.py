"""Read and replace a user's files, atomically."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from kluis.errors import UnavailableError, UsageError


def read(path: Path) -> bytes:
    """Read a small file whose path comes from the user.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, atomically.

    Raises:
        UnavailableError: it cannot be written.
    """
    with replacing(path) as f:
        f.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file without a name, and give it ``path`` once it is complete.

    If it fails before, even by a kill, the old file at ``path`` is unchanged, and no other file is left. (On
    a file system without nameless files, a kill leaves a hidden one.)

    Raises:
        UnavailableError: it cannot be written.
    """
    beside = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        if path.is_dir():
            raise UsageError(f"{path}: want a file, got a folder")
        with _nameless(path.parent, beside) as f:
            yield f
            f.flush()
            os.fchmod(f.fileno(), 0o644)
            if not beside.exists():
                folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    # With a folder's descriptor Python calls linkat, which follows the link in /proc.
                    os.link(f"/proc/self/fd/{f.fileno()}", beside.name, dst_dir_fd=folder)
                finally:
                    os.close(folder)
        os.replace(beside, path)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _nameless(folder: Path, beside: Path) -> BinaryIO:
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return cast("BinaryIO", os.fdopen(descriptor, "r+b"))
