"""The allocator of the region: no page is handed out twice. And the filter: all bits of a pointer count."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.host import load
from kluis.tee.image import build
from kluis.tee.platform.client import Platform

CODE = '''"""Asks the memory library and the kernel directly."""

import ctypes

from kluis.enclave import Enclave

app = Enclave("allocator")
PAGE, RW, ANONYMOUS, FIXED = 4096, 3, 0x22, 0x10
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.mprotect.argtypes = libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
libc.syscall.restype = ctypes.c_long


@app.ecall
def twice() -> int:
    """Give the middle of a mapping back and take it again in its place: how many later ones overlap it."""
    base = libc.mmap(None, 64 * PAGE, RW, ANONYMOUS, -1, 0)
    middle = base + 16 * PAGE
    libc.munmap(middle, 32 * PAGE)
    assert libc.mmap(middle, 32 * PAGE, RW, ANONYMOUS | FIXED, -1, 0) == middle
    later = [libc.mmap(None, PAGE, RW, ANONYMOUS, -1, 0) for _ in range(4096)]
    return sum(base <= at < base + 64 * PAGE for at in later)


@app.ecall
def limit() -> int:
    """Set a limit with a pointer whose low half is zero: the error, 0 where it was done."""
    at = ctypes.c_long(0x7 << 32)
    got = libc.syscall(ctypes.c_long(302), ctypes.c_long(0), ctypes.c_long(7), at, ctypes.c_long(0))
    return ctypes.get_errno() if got < 0 else 0


@app.ecall
def reopened_mib() -> int:
    """Reserve closed memory and open and fill it, 16 MiB at a time: how much there was, MiB."""
    step, opened = 16 << 20, 0
    base = libc.mmap(None, 64 * step, 0, ANONYMOUS, -1, 0)
    while opened < 64 and libc.mprotect(base + opened * step, step, RW) == 0:
        ctypes.memset(base + opened * step, 1, step)
        opened += 1
    libc.munmap(base, 64 * step)
    return opened * 16


@app.ecall
def left_after_dontneed() -> int:
    """Close a page with something in it, give its content up, open it: bytes that are still there."""
    at = libc.mmap(None, PAGE, RW, ANONYMOUS, -1, 0)
    ctypes.memset(at, 1, PAGE)
    libc.mprotect(at, PAGE, 0)
    libc.madvise(at, PAGE, 4)
    libc.mprotect(at, PAGE, RW)
    return sum(ctypes.string_at(at, PAGE))
'''


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The enclave above."""
    place = tmp_path_factory.mktemp("allocator")
    (place / "src").mkdir()
    (place / "src" / "app.py").write_text(CODE)
    build(place / "src", place / "allocator.kluis", place / "author.pem", debug=False)
    return place / "allocator.kluis"


def test_pages_taken_again_in_place(platform: Platform, image: Path, allowed: frozenset[str]) -> None:
    """Pages that were given back and mapped again at their address are nobody else's."""
    with load(image, insecure_allow_missing=allowed) as enclave:
        assert enclave.twice() == 0


def test_no_limit_is_set(platform: Platform, image: Path, allowed: frozenset[str]) -> None:
    """The filter compares all 64 bits of a pointer: EPERM, where EFAULT says that the kernel looked."""
    with load(image, insecure_allow_missing=allowed) as enclave:
        assert enclave.limit() == 1


def test_closed_memory_counts_when_it_is_opened(
    platform: Platform, image: Path, allowed: frozenset[str]
) -> None:
    """Reserving closed and opening later is no way around the heap's bound of 512 MiB."""
    with load(image, insecure_allow_missing=allowed) as enclave:
        assert 256 <= enclave.reopened_mib() <= 512
        assert enclave.reopened_mib() >= 256, "what was given back can be had again"


def test_content_given_up_is_gone(platform: Platform, image: Path, allowed: frozenset[str]) -> None:
    """MADV_DONTNEED on closed pages: zeros when they are opened."""
    with load(image, insecure_allow_missing=allowed) as enclave:
        assert enclave.left_after_dontneed() == 0
