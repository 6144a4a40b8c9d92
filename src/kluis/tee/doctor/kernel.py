"""Test the kernel features for process enclaves; each is tried, not derived from a version number.

Spec: memfd_secret(2), landlock(7), seccomp(2), PR_SET_MDWE(2const), user_namespaces(7), getrlimit(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import subprocess

from kluis.tee.doctor.finding import Finding, Part, State, is_root, setting
from kluis.tee.process import linux

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
DEFAULT_HEAP_BYTES = 512 << 20
TOUCHED_BYTES = 16 << 20
"""Twice the amount that Debian allows a process to lock."""
TRY_SECONDS = 60

_libc = ctypes.CDLL(None, use_errno=True)


def probe() -> list[Finding]:
    """Try each kernel feature that a process enclave uses, in this process or in a short-lived child."""
    return [memlock(), descriptors(), memfd_secret(), user_namespaces(), landlock(), seccomp(), mdwe()]


def memfd_secret() -> Finding:
    """Create secret memory and write to each page: as much as Debian's limit, and more if allowed.

    A kernel may map memory that it cannot provide, and kill the process that touches it: one page proves
    nothing.
    """
    if not linux.has_memfd_secret():
        return _process(
            "memfd_secret", State.MISSING, "the kernel gives none", "boot with secretmem.enable=1"
        )
    limit = linux.lockable_bytes()
    size = TOUCHED_BYTES if limit is None else min(limit, TOUCHED_BYTES)
    if not linux.can_touch(size):
        seen = f"{size >> 20} MiB could be mapped and not written"
        return _process("memfd_secret", State.MISSING, seen, _memlock_fix())
    return _process(
        "memfd_secret", State.OK, f"{size / (1 << 20):.3g} MiB were made and written, page by page"
    )


def memlock() -> Finding:
    """Compare the memory lock limit with the default heap of an image."""
    linux.raise_limits()  # as the platform does for what it starts
    limit = linux.lockable_bytes()
    if limit is None:
        return _process("RLIMIT_MEMLOCK", State.OK, "unlimited" + (", for root" if is_root() else ""))
    want = f"{DEFAULT_HEAP_BYTES >> 20} MiB for a default heap"
    if limit >= DEFAULT_HEAP_BYTES:
        return _process("RLIMIT_MEMLOCK", State.OK, f"{limit >> 20} MiB, want {want}")
    return _process("RLIMIT_MEMLOCK", State.MISSING, f"{limit >> 20} MiB, want {want}", _memlock_fix())


def descriptors() -> Finding:
    """Compare the hard limit on descriptors with what the launcher needs to create secret memory."""
    linux.raise_limits()  # as the platform does for what it starts
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= linux.DESCRIPTORS:
        seen = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit}, want {linux.DESCRIPTORS}"
        return _process("RLIMIT_NOFILE", State.OK, seen)
    fix = _limit_fix("nofile", str(linux.DESCRIPTORS), f"LimitNOFILE={linux.DESCRIPTORS}")
    return _process("RLIMIT_NOFILE", State.MISSING, f"{limit}, want {linux.DESCRIPTORS}", fix)


def _memlock_fix() -> str:
    return _limit_fix("memlock", "unlimited", "LimitMEMLOCK=infinity")


def _limit_fix(item: str, value: str, unit: str) -> str:
    return f"{linux.limits_line(item, value)}, and log in again (a service: {unit})"


def user_namespaces() -> Finding:
    """Enter a user namespace in a child, which an enclave needs unless root started it."""
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
        fix = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    elif setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        fix = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    else:
        fix = "sudo sysctl -w user.max_user_namespaces=15000"
    return _process(
        "user namespaces", State.ABSENT if is_root() else State.MISSING, tried.stderr.strip(), fix
    )


def landlock() -> Finding:
    """Query Landlock's ABI version."""
    if abi := linux.landlock_abi():
        return _process("Landlock", State.OK, f"ABI {abi}")
    return _process("Landlock", State.MISSING, "the kernel has none", linux.FIXES["landlock"])


def seccomp() -> Finding:
    """Pass the kernel an invalid filter: one that supports filters reports a bad address, not a bad mode."""
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
    """Query whether memory can be prevented from becoming code."""
    if linux.has_mdwe():
        return _process("PR_SET_MDWE", State.OK, "memory cannot turn into code")
    return _process("PR_SET_MDWE", State.MISSING, "the kernel has none", linux.FIXES["mdwe"])


def _process(name: str, state: State, seen: str, fix: str | None = None) -> Finding:
    return Finding(part=Part.PROCESS, name=name, state=state, seen=seen, fix=fix)
