"""The backing file of an enclave's encrypted scratch: a nameless file in the platform's state directory.

Only the enclave has the key, so its contents are noise on the disk, in the page cache, and to root. It is a
file because scratch is for more data than fits in memory. Its space is allocated at once, so that a full disk
refuses a launch and never ends a running enclave.
"""

from __future__ import annotations

import fcntl
import os

from kluis.errors import UnavailableError


def free_bytes() -> int:
    """Free space for ordinary users on the working directory's disk, bytes."""
    disk = os.statvfs(".")
    return disk.f_bavail * disk.f_frsize


def backing(name: str, size_bytes: int) -> int:
    """Create the backing file of the enclave ``name``, ``size_bytes`` large, in the working directory; return
    a descriptor.

    Raises:
        UnavailableError: the disk is too full.
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


def watch(backing: int) -> int:
    """Open a backing file again, for :func:`is_free`; return a descriptor."""
    return os.open(f"/proc/self/fd/{backing}", os.O_RDONLY | os.O_CLOEXEC)


def is_free(watched: int) -> bool:
    """Whether nobody has a backing file open for writing.

    The kernel gives a read lease only on such a file; where a file system has no leases, every file is free.
    Spec: fcntl(2), "Leases".
    """
    try:
        fcntl.fcntl(watched, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
