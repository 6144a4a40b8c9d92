"""Attempts to read a process as its host or root could: memory file, memory calls, debugger.

Used on an enclave that was just started on this machine, to show what is kept out. Each attempt uses the
kernel's interface directly; the process is not changed.

Spec: proc_pid_mem(5), process_vm_readv(2), ptrace(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kluis.frozen import frozen

PTRACE_SEIZE = 0x4206
PTRACE_DETACH = 17
CHUNK_BYTES = 4 << 20
UNREADABLE = ("[vvar]", "[vvar_vclock]", "[vsyscall]")

_libc = ctypes.CDLL(None, use_errno=True)


@frozen
class Reading:
    """The result of one way of reading.

    Attributes:
        read_bytes: bytes of the process that were read.
        copies: occurrences of the planted bytes in them.
        refused: the kernel's error if it refused; None if it never did.
    """

    read_bytes: int
    copies: int
    refused: str | None


class _Span(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t))


def by_memory_file(pid: int, planted: bytes) -> Reading:
    """Read everything that /proc/PID/mem returns."""
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Reading(0, 0, _words(error))
    try:
        return _gather(pid, planted, lambda at, size: os.pread(memory, size, at))
    finally:
        os.close(memory)


def by_memory_call(pid: int, planted: bytes) -> Reading:
    """Read everything that process_vm_readv returns."""
    buffer = ctypes.create_string_buffer(CHUNK_BYTES)

    def read(at: int, size: int) -> bytes:
        ours, theirs = _Span(ctypes.addressof(buffer), size), _Span(at, size)
        got = _libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        if got < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return ctypes.string_at(buffer, got)

    return _gather(pid, planted, read)


def by_debugger(pid: int) -> str | None:
    """Attach like a debugger, and detach at once.

    Returns:
        The kernel's error; None if it allowed it.
    """
    if _libc.ptrace(PTRACE_SEIZE, pid, None, None) < 0:
        return os.strerror(ctypes.get_errno()).lower()
    _libc.ptrace(PTRACE_DETACH, pid, None, None)
    return None


def _gather(pid: int, planted: bytes, read: Callable[[int, int], bytes]) -> Reading:
    total, copies, refused = 0, 0, None
    try:
        spans = list(_spans(pid))
    except OSError as error:
        return Reading(0, 0, _words(error))
    for start, end in spans:
        before = b""
        for at in range(start, end, CHUNK_BYTES):
            try:
                chunk = read(at, min(CHUNK_BYTES, end - at))
            except OSError as error:
                refused, before = _words(error), b""
                continue
            total += len(chunk)
            copies += (before + chunk).count(planted)
            before = chunk[1 - len(planted) :]
    return Reading(total, copies, refused)


def _spans(pid: int) -> Iterator[tuple[int, int]]:
    """The mappings that a process may read itself."""
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        where, mode, *rest = line.split(maxsplit=5)
        if mode.startswith("r") and (not rest or rest[-1].strip() not in UNREADABLE):
            start, _, end = where.partition("-")
            yield int(start, 16), int(end, 16)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
