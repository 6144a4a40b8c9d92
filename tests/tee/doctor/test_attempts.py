"""Read another process: one of ours that hides nothing, and one that hides its secret."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kluis.tee.doctor import attempts

PLANTED = b"planted-by-a-test-0123456789abcdef"

OPEN = """
import hashlib, sys
planted = [bytes(b ^ 1 for b in bytes.fromhex(sys.argv[1])) for _ in range(100)]
print("ready", flush=True)
sys.stdin.read()
"""

SECRET = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None)
fd = libc.syscall(447, os.O_CLOEXEC)
os.ftruncate(fd, 4096)
page = mmap.mmap(fd, 4096, mmap.MAP_SHARED)
for at, byte in enumerate(bytes.fromhex(sys.argv[1])): page[at] = byte ^ 1
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def _child(program: str) -> Iterator[int]:
    hidden = bytes(byte ^ 1 for byte in PLANTED).hex()
    child = subprocess.Popen(
        [sys.executable, "-c", program, hidden], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdout.readline()
        yield child.pid
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait(timeout=300)


def test_a_process_that_hides_nothing_is_read() -> None:
    """Both ways of reading find what an ordinary process holds, so that finding nothing means something."""
    with _child(OPEN) as pid:
        for read in (attempts.by_memory_file, attempts.by_memory_call):
            found = read(pid, PLANTED)
            assert found.copies >= 100
            assert found.read_bytes > 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to show that even root is refused")
def test_secret_memory_is_not_read_by_root() -> None:
    """Neither way of reading finds the content of secret memory, and the kernel reports a refusal."""
    with _child(SECRET) as pid:
        for read in (attempts.by_memory_file, attempts.by_memory_call):
            found = read(pid, PLANTED)
            assert found.copies == 0
            assert found.refused is not None


def test_a_debugger_is_let_in_where_nobody_keeps_it_out() -> None:
    """Attaching works on an ordinary child, and it goes on living."""
    with _child(OPEN) as pid:
        assert attempts.by_debugger(pid) is None
        os.kill(pid, 0)


def test_a_process_that_is_gone_is_an_answer() -> None:
    """A process that has ended is refused in words, not raised."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert attempts.by_memory_file(child.pid, PLANTED).refused == "no such file or directory"
    assert attempts.by_debugger(child.pid) == "no such process"
