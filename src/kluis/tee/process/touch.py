"""Write to every page of some secret memory, as a separate program, because a refusal may be a SIGBUS.

Exits with 0 if all pages could be written. Spec: memfd_secret(2).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

SYS_MEMFD_SECRET = 447


def touch(size: int) -> None:
    """Create ``size`` bytes of secret memory and write to each page.

    Raises:
        OSError: the kernel provides none, or not that much.
    """
    descriptor: int = ctypes.CDLL(None, use_errno=True).syscall(SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.ftruncate(descriptor, size)
    with mmap.mmap(descriptor, size, mmap.MAP_SHARED) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


if __name__ == "__main__":
    touch(int(sys.argv[1]))
