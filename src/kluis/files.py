"""Files that are written whole or not at all, readable by their owner alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


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
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
