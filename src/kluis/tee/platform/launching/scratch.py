"""The backing of an enclave's encrypted scratch: a file without a name in the platform's state.

The enclave alone has the key, so what lies here is noise: on the disk, in the page cache, to root. A file,
not memory: scratch is for what memory does not hold. Its space is taken at once, so that a full disk
refuses a launch and never ends an enclave that runs.
"""

from __future__ import annotations

import os

from kluis.errors import UnavailableError


def free_bytes() -> int:
    """How much the disk of the working directory has left for ordinary users, bytes."""
    disk = os.statvfs(".")
    return disk.f_bavail * disk.f_frsize


def backing(name: str, size_bytes: int) -> int:
    """Make the backing of the enclave ``name``, ``size_bytes`` large, in the working directory: a descriptor.

    Raises:
        UnavailableError: the disk does not hold it.
    """
    path, made = f"scratch-{name}", -1
    try:
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        os.posix_fallocate(made, 0, size_bytes)
    except OSError as error:
        if made >= 0:
            os.close(made)
        raise UnavailableError(
            f"scratch: want {size_bytes} bytes of disk, got: {error.strerror}",
            code="scratch_full",
            hint="free space where the platform keeps its state, or lower scratch in kluis.toml",
        ) from error
    return made
