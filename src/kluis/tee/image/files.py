"""Files of the user's: read whole, or replaced whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from kluis.errors import UnavailableError, UsageError


def read(path: Path) -> bytes:
    """Read a small file that the user named.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def write(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, whole or not at all.

    Raises:
        UnavailableError: it cannot be written.
    """
    with replacing(path) as f:
        f.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside ``path``, and put it in its place once it is complete; on failure nothing is left.

    Raises:
        UnavailableError: it cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".kluis-", delete=False) as f:
            temporary = f.name
            yield cast("BinaryIO", f)
            f.flush()
            os.fchmod(f.fileno(), 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
