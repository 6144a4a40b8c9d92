"""Read and replace a user's files, atomically."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kluis import files
from kluis.errors import UnavailableError, UsageError


def read(path: Path) -> bytes:
    """Read a small file whose path comes from the user.

    Raises:
        UsageError: it cannot be read.
    """
    with files.named(path) as file:
        return file.read()


def write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, atomically.

    Raises:
        UnavailableError: it cannot be written.
    """
    with replacing(path) as f:
        f.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that gets ``path`` once it is complete, as :func:`kluis.files.replacing` does.

    Raises:
        UsageError: a folder is there.
        UnavailableError: it cannot be written.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path}: want a file, got a folder")
        with files.replacing(path) as f:
            yield f
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror or error}") from error
