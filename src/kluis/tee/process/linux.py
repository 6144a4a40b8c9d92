"""The few Linux calls that the standard library does not have, and what this kernel gives.

Spec: memfd_secret(2), landlock(7), PR_SET_MDWE(2const), mount(2).
"""

from __future__ import annotations

import ctypes
import os
import resource

SYS_MEMFD_SECRET = 447
SYS_LANDLOCK_CREATE_RULESET = 444
LANDLOCK_CREATE_RULESET_VERSION = 1
PR_GET_MDWE = 66
MS_NOSUID_NODEV = 2 | 4

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> int:
    """The Landlock ABI of this kernel; 0 where there is none."""
    abi: int = _libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    return max(abi, 0)


def has_mdwe() -> bool:
    """Whether the kernel can deny that data becomes code (PR_SET_MDWE, Linux 6.3)."""
    return bool(_libc.prctl(PR_GET_MDWE, 0, 0, 0, 0) >= 0)


def has_memfd_secret() -> bool:
    """Whether the kernel gives secret memory at all."""
    descriptor: int = _libc.syscall(SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True


def lockable_bytes() -> int | None:
    """How much memory one process of this user may lock, bytes; None: any amount (root).

    A user namespace does not help: the limit is checked against the initial one.
    """
    if os.geteuid() == 0 and _initial_user_namespace():
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = hard if hard != resource.RLIM_INFINITY else soft
    return None if limit == resource.RLIM_INFINITY else limit


def _initial_user_namespace() -> bool:
    with open("/proc/self/uid_map") as file:
        return file.read().split() == ["0", "0", str(0xFFFFFFFF)]


def mount_tmpfs(path: str, mode: int) -> None:
    """Mount a tmpfs of ``mode`` on ``path``.

    Raises:
        OSError: the kernel's.
    """
    if _libc.mount(b"kluis", path.encode(), b"tmpfs", MS_NOSUID_NODEV, f"mode={mode:o}".encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount tmpfs: {os.strerror(number)}", path)


def missing(heap_bytes: int) -> frozenset[str]:
    """What this machine lacks for an enclave of ``heap_bytes``, by name, as in the launch configuration."""
    lacks = set()
    limit = lockable_bytes()
    if not has_memfd_secret() or (limit is not None and limit < heap_bytes):
        lacks.add("secret-memory")
    if not landlock_abi():
        lacks.add("landlock")
    if not has_mdwe():
        lacks.add("mdwe")
    return frozenset(lacks)


FIXES = {
    "secret-memory": (
        "needs Linux 5.14 without secretmem.enable=0, and a limit on locked memory above the heap:"
        " put `* hard memlock unlimited` and `* soft memlock unlimited` into"
        " /etc/security/limits.d/kluis.conf and log in again, or LimitMEMLOCK=infinity into the systemd unit"
    ),
    "landlock": "needs a kernel with CONFIG_SECURITY_LANDLOCK and landlock in the lsm= boot parameter",
    "mdwe": "needs Linux 6.3 or newer",
}
"""What brings each missing thing, for people."""
