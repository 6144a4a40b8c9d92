"""Trying to read a process as its host or as root would: the memory file, the memory calls, a debugger.

Used against an enclave that this machine has just started, to see with one's own eyes what is kept out. Each
attempt is the kernel's plain interface, no tool; nothing is changed in the process that is tried.

Spec: proc_pid_mem(5), process_vm_readv(2), ptrace(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PTRACE_SEIZE = 0x4206
PTRACE_DETACH = 17
CHUNK_BYTES = 4 << 20
UNREADABLE = ("[vvar]", "[vvar_vclock]", "[vsyscall]")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one way of reading brought.

    Attributes:
        read_bytes: how much of the process it got.
        copies: how often the planted bytes were in it.
        refused: what the kernel said where it refused; None if it never did.
    """

    read_bytes: int
    copies: int
    refused: str | None


class _Span(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t))


def by_memory_file(pid: int, planted: bytes) -> Reading:
    """Read everything that /proc/PID/mem gives."""
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Reading(0, 0, _words(error))
    try:
        return _gather(pid, planted, lambda at, size: os.pread(memory, size, at))
    finally:
        os.close(memory)


def by_memory_call(pid: int, planted: bytes) -> Reading:
    """Read everything that process_vm_readv gives."""
    buffer = ctypes.create_string_buffer(CHUNK_BYTES)

    def read(at: int, size: int) -> bytes:
        ours, theirs = _Span(ctypes.addressof(buffer), size), _Span(at, size)
        got = _libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        if got < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return ctypes.string_at(buffer, got)

    return _gather(pid, planted, read)


def by_debugger(pid: int) -> str | None:
    """Attach as a debugger does, and let go at once.

    Returns:
        What the kernel said; None if it let us.
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
    """The parts of its map that a process may itself read."""
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        where, mode, *rest = line.split(maxsplit=5)
        if mode.startswith("r") and (not rest or rest[-1].strip() not in UNREADABLE):
            start, _, end = where.partition("-")
            yield int(start, 16), int(end, 16)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
