"""What the kernel gives a process enclave, each thing tried and not read off a version number.

Spec: memfd_secret(2), landlock(7), seccomp(2), PR_SET_MDWE(2const), user_namespaces(7), getrlimit(2).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import subprocess

from kluis.tee.doctor.finding import Finding, Part, State, is_root, setting
from kluis.tee.process import linux

SYS_MEMFD_SECRET = 447
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
DEFAULT_HEAP_BYTES = 512 << 20
TRY_SECONDS = 60

_libc = ctypes.CDLL(None, use_errno=True)


def probe() -> list[Finding]:
    """Try each kernel feature that a process enclave uses, in this process or in a short-lived child."""
    return [memfd_secret(), memlock(), user_namespaces(), landlock(), seccomp(), mdwe()]


def memfd_secret() -> Finding:
    """Make one page of secret memory, write to it and let it go."""
    fd: int = _libc.syscall(SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if fd < 0:
        why = ctypes.get_errno()
        fix = "boot with secretmem.enable=1" if why == errno.ENOSYS else None
        return _process("memfd_secret", State.MISSING, os.strerror(why).lower(), fix)
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        with mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED) as page:
            page[:5] = b"kluis"
        return _process("memfd_secret", State.OK, "a page was made, written and returned")
    except OSError as error:
        return _process("memfd_secret", State.MISSING, f"no page: {error}", _memlock_fix())
    finally:
        os.close(fd)


def memlock() -> Finding:
    """Compare what may be locked with the heap of an image that does not say how much it wants."""
    limit = linux.lockable_bytes()
    if limit is None:
        return _process("RLIMIT_MEMLOCK", State.OK, "unlimited" + (", for root" if is_root() else ""))
    want = f"{DEFAULT_HEAP_BYTES >> 20} MiB for a default heap"
    if limit >= DEFAULT_HEAP_BYTES:
        return _process("RLIMIT_MEMLOCK", State.OK, f"{limit >> 20} MiB, want {want}")
    return _process("RLIMIT_MEMLOCK", State.MISSING, f"{limit >> 20} MiB, want {want}", _memlock_fix())


def _memlock_fix() -> str:
    user = os.environ.get("USER", str(os.getuid()))
    return (
        f"echo '{user} - memlock 1048576' | sudo tee /etc/security/limits.d/kluis.conf, and log in again "
        "(a service: LimitMEMLOCK=1G)"
    )


def user_namespaces() -> Finding:
    """Enter a user namespace in a child, which an enclave that root did not start needs."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return _process(
            "user namespaces", State.PARTIAL, "not tried: no unshare", "apt-get install util-linux"
        )
    tried = subprocess.run(
        [unshare, "--user", "--map-root-user", "true"],
        capture_output=True,
        text=True,
        timeout=TRY_SECONDS,
        check=False,
    )
    if tried.returncode == 0:
        return _process(
            "user namespaces", State.OK, "one was entered" + (" (root does not need it)" if is_root() else "")
        )
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        fix = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    elif setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        fix = "sysctl -w kernel.unprivileged_userns_clone=1"
    else:
        fix = "sysctl -w user.max_user_namespaces=15000"
    return _process(
        "user namespaces", State.ABSENT if is_root() else State.MISSING, tried.stderr.strip(), fix
    )


def landlock() -> Finding:
    """Ask for Landlock's ABI version."""
    if abi := linux.landlock_abi():
        return _process("Landlock", State.OK, f"ABI {abi}")
    return _process("Landlock", State.MISSING, "the kernel has none", linux.FIXES["landlock"])


def seccomp() -> Finding:
    """Offer the kernel no filter at all: one that has filters complains of the address, not of the mode."""
    _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, None)
    if ctypes.get_errno() == errno.EFAULT:
        return _process("seccomp", State.OK, "filters")
    return _process(
        "seccomp",
        State.MISSING,
        os.strerror(ctypes.get_errno()).lower(),
        "a kernel with CONFIG_SECCOMP_FILTER",
    )


def mdwe() -> Finding:
    """Ask whether memory can be kept from turning into code."""
    if linux.has_mdwe():
        return _process("PR_SET_MDWE", State.OK, "memory cannot turn into code")
    return _process("PR_SET_MDWE", State.MISSING, "the kernel has none", linux.FIXES["mdwe"])


def _process(name: str, state: State, seen: str, fix: str | None = None) -> Finding:
    return Finding(part=Part.PROCESS, name=name, state=state, seen=seen, fix=fix)
