"""Linux calls that are not in the standard library, and detection of this kernel's features.

Spec: memfd_secret(2), landlock(7), PR_SET_MDWE(2const), mount(2), unshare(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import resource
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from kluis.errors import UnavailableError

SYS_MEMFD_SECRET = 447
SYS_LANDLOCK_CREATE_RULESET = 444
LANDLOCK_CREATE_RULESET_VERSION = 1
PR_GET_MDWE = 66
MS_NOSUID_NODEV = 2 | 4
MS_BIND = 4096
MS_REC_PRIVATE = 1 << 14 | 1 << 18
CLONE_NEWNS = 0x20000
DESCRIPTORS = 16_448
"""Hard limit that the launcher needs to make secret memory (REGION_DESCRIPTORS of native/memory.h)."""
SLACK_BYTES = 1 << 20
"""How far beyond the limit to test."""
TRY_SECONDS = 60.0
EMULATED = 30.0
"""How many times longer anything may take on an emulated processor."""
EMULATED_MODEL = "QEMU TCG CPU"
PROCESSORS = Path("/proc/cpuinfo")

_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def slowness() -> float:
    """How many times longer than on a processor anything may take here: ``EMULATED`` if QEMU emulates it.

    Only time limits follow it. A machine whose processor states another model has shorter ones.
    """
    with PROCESSORS.open(encoding="ascii", errors="replace") as file:
        models = [line for line in file if line.startswith("model name")]
    return EMULATED if any(EMULATED_MODEL in line for line in models) else 1.0


def landlock_abi() -> int:
    """The Landlock ABI of this kernel; 0 if there is none."""
    abi: int = _libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    return max(abi, 0)


def has_mdwe() -> bool:
    """Whether the kernel can prevent data from becoming code (PR_SET_MDWE, Linux 6.3)."""
    return bool(_libc.prctl(PR_GET_MDWE, 0, 0, 0, 0) >= 0)


def readable(*descriptors: int, seconds: float | None) -> frozenset[int]:
    """Wait until one of them can be read or has ended; return these, none after ``seconds``; None: no limit.

    Unlike select(2), it takes descriptors above 1,023, which a process with many enclaves has.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return frozenset(found for found, _ in poll.poll(None if seconds is None else seconds * 1000))


def has_memfd_secret() -> bool:
    """Whether the kernel supports secret memory at all."""
    descriptor: int = _libc.syscall(SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True


def lockable_bytes() -> int | None:
    """How much secret memory one process of this user may have, bytes; None: any amount.

    A user namespace does not help: the limit is checked against the initial one. Whether the limit applies to
    root depends on the kernel, so it is tested: secret memory just above the limit is created and touched.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY:
        return None
    if os.geteuid() == 0 and _initial_user_namespace() and can_touch(limit + SLACK_BYTES):
        return None
    return limit


def raise_limits() -> None:
    """Raise this process's limits on locked memory and descriptors, which its children inherit, if allowed.

    Some kernels apply the limit to root too: the mapping succeeds there, and the first touch beyond the limit
    ends the process (SIGBUS). Only CAP_SYS_RESOURCE removes it; otherwise raise up to the hard limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    for limit in (resource.RLIM_INFINITY, hard):
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        except (ValueError, OSError):
            continue
        break
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The kernel's own limit is lower; most service managers set a higher one.
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, DESCRIPTORS))


@contextlib.contextmanager
def more_files() -> Iterator[None]:
    """Start processes that may open as many files as the hard limit allows, at most ``DESCRIPTORS``.

    The platform needs them: each of its hosts may make it hold a dozen.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def move_high(fd: int) -> int:
    """Duplicate a descriptor to 64 or more, where a new process puts nothing."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)


@functools.cache
def can_touch(size: int) -> bool:
    """Whether a process here can write to ``size`` bytes of secret memory, page by page; tested in a child.

    A child that takes longer than a minute counts as one that cannot.
    """
    import subprocess  # the platform does without

    line = [sys.executable, "-I", "-S", str(Path(__file__).with_name("touch.py")), str(size)]
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _initial_user_namespace() -> bool:
    with open("/proc/self/uid_map") as file:
        return file.read().split() == ["0", "0", str(0xFFFFFFFF)]


def mount_tmpfs(path: str, mode: int) -> None:
    """Mount a tmpfs of ``mode`` on ``path``.

    Raises:
        OSError: from the kernel.
    """
    if _libc.mount(b"kluis", path.encode(), b"tmpfs", MS_NOSUID_NODEV, f"mode={mode:o}".encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount tmpfs: {os.strerror(number)}", path)


def own_mounts() -> None:
    """Give this process a mount namespace, from which nothing propagates.

    Raises:
        OSError: from the kernel.
    """
    if _libc.unshare(CLONE_NEWNS) or _libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount namespace: {os.strerror(number)}")


def bind(source: str, target: str) -> None:
    """Show the folder ``source`` at ``target`` too.

    Raises:
        OSError: from the kernel.
    """
    if _libc.mount(source.encode(), target.encode(), None, MS_BIND, None):
        number = ctypes.get_errno()
        raise OSError(number, f"bind mount: {os.strerror(number)}", target)


def missing(heap_bytes: int) -> frozenset[str]:
    """Names of the protections that this machine does not have for an enclave of ``heap_bytes``, as in the
    launch configuration.
    """
    lacks = set()
    limit = lockable_bytes()
    if not has_memfd_secret() or (limit is not None and limit < heap_bytes):
        lacks.add("secret-memory")
    if not landlock_abi():
        lacks.add("landlock")
    if not has_mdwe():
        lacks.add("mdwe")
    return frozenset(lacks)


def limits_line(item: str, value: str) -> str:
    """The command that adds one limit for the user that types it, and changes nothing else."""
    return f'echo "$(id -un) - {item} {value}" | sudo tee -a /etc/security/limits.d/kluis.conf'


FIXES = {
    "secret-memory": (
        "needs Linux 5.14 without secretmem.enable=0, and a limit on locked memory above the heap:"
        f" {limits_line('memlock', 'unlimited')}, and log in again;"
        " a systemd unit: LimitMEMLOCK=infinity; in a container, the flags that kluis doctor prints there"
    ),
    "landlock": "needs a kernel with CONFIG_SECURITY_LANDLOCK and landlock in the lsm= boot parameter",
    "mdwe": "needs Linux 6.3 or newer",
}
"""How to install each missing protection, for people."""


def check_missing(lacks: frozenset[str], allowed: frozenset[str]) -> None:
    """Check that an enclave may start without the protections that a machine does not have.

    Raises:
        UnavailableError: one is missing that may not be missing; states how it is installed.
    """
    if refused := sorted(lacks - allowed):
        names = ",".join(refused)
        raise UnavailableError(
            f"launch: {', '.join(refused)}: this machine does not give it",
            code="missing_protection",
            hint=(
                f"{refused[0]} {FIXES[refused[0]]}; or accept that it is missing:"
                f" --insecure-allow-missing={names}, in Python"
                f" insecure_allow_missing=frozenset({refused})"
            ),
        )
