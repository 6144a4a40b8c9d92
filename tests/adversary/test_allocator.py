"""The allocator of the region: no page is handed out twice. And the filter: all bits of a pointer count."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.host import load
from kluis.tee.image.build.builder import build
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


@app.ecall
def rights_the_kernel_refuses() -> int:
    """Ask for rights that no page can have (PROT_GROWSDOWN): the error, 0 where it was done."""
    at = libc.mmap(None, PAGE, RW, ANONYMOUS, -1, 0)
    return ctypes.get_errno() if libc.mprotect(at, PAGE, 0x01000001) else 0


@app.ecall
def under_a_file() -> int:
    """Map a file over a page, give all back, take pages: how many of them are where the file was."""
    base = libc.mmap(None, 64 * PAGE, RW, ANONYMOUS, -1, 0)
    with open(__file__, "rb") as file:
        assert libc.mmap(base + PAGE, PAGE, RW, 2 | FIXED, file.fileno(), 0) == base + PAGE
    assert ctypes.string_at(base + PAGE, 3) == b'"""'
    assert libc.munmap(base, 64 * PAGE) == 0
    later = [libc.mmap(None, PAGE, RW, ANONYMOUS, -1, 0) for _ in range(4096)]
    return later.count(base + PAGE) if base in later else -1
'''
GENERATED = '''"""Generates code, which its grant allows."""

import ctypes

from kluis.enclave import Enclave

app = Enclave("generated")
PAGE, RX, ANONYMOUS, FIXED = 4096, 5, 0x22, 0x10
FORTY_TWO = bytes.fromhex("b82a000000c3")  # mov eax, 42; ret
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def run(at: int) -> int:
    ctypes.memmove(at, FORTY_TWO, len(FORTY_TWO))
    return ctypes.CFUNCTYPE(ctypes.c_int)(at)()


@app.ecall
def of_reserved() -> int:
    """Reserve a closed page, open it for code, run some: what it gives."""
    at = libc.mmap(None, PAGE, 0, ANONYMOUS, -1, 0)
    assert libc.mprotect(at, PAGE, 7) == 0
    return run(at)


@app.ecall
def of_written() -> int:
    """Write code into a page, let it be run, and run it: what it gives."""
    at = libc.mmap(None, PAGE, 3, ANONYMOUS, -1, 0)
    ctypes.memmove(at, FORTY_TWO, len(FORTY_TWO))
    assert libc.mprotect(at, PAGE, RX) == 0
    return ctypes.CFUNCTYPE(ctypes.c_int)(at)()


@app.ecall
def past_the_region() -> int:
    """Map code from a page on, far past the region's end: the error, 0 where it was done."""
    at = libc.mmap(None, PAGE, 3, ANONYMOUS, -1, 0)
    done = libc.mmap(at, 1 << 40, RX, ANONYMOUS | FIXED, -1, 0) == at
    return 0 if done else ctypes.get_errno()


@app.ecall
def reserved_mib() -> int:
    """Map code over reserved memory, 16 MiB at a time: how much there was, MiB."""
    step, opened = 16 << 20, 0
    base = libc.mmap(None, 64 * step, 0, ANONYMOUS, -1, 0)
    while opened < 64 and libc.mmap(base + opened * step, step, 7, ANONYMOUS | FIXED, -1, 0):
        if libc.mprotect(base + opened * step, step, 7):
            break
        ctypes.memset(base + opened * step, 1, step)
        opened += 1
    return opened * 16
'''


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first enclave above."""
    return _built(tmp_path_factory.mktemp("allocator"), CODE)


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second."""
    return _built(tmp_path_factory.mktemp("generated"), GENERATED, 'grants = ["insecure_jit"]\n')


def _built(place: Path, code: str, settings: str = "") -> Path:
    (place / "src").mkdir()
    (place / "src" / "app.py").write_text(code)
    (place / "src" / "kluis.toml").write_text(settings)
    build(place / "src", place / "made.kluis", place / "author.pem", debug=False)
    return place / "made.kluis"


def test_pages_taken_again_in_place(platform: Platform, image: Path, allowed: frozenset[str]) -> None:
    """Pages that were given back and mapped again at their address are nobody else's."""
    with load(image, insecure_allow_missing=allowed) as enclave:
        assert enclave.twice() == 0


def test_no_limit_is_set(platform: Platform, image: Path, allowed: frozenset[str]) -> None:
    """The filter compares all 64 bits of a pointer: EPERM, where EFAULT would mean that the kernel looked."""
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


def test_the_kernels_refusal_is_told(platform: Platform, image: Path, allowed: frozenset[str]) -> None:
    """EINVAL, as the kernel answers: a caller would count on rights that the page does not have."""
    with load(image, insecure_allow_missing=allowed) as enclave:
        assert enclave.rights_the_kernel_refuses() == 22


def test_no_page_of_a_file_is_handed_out(platform: Platform, image: Path, allowed: frozenset[str]) -> None:
    """A file that was mapped over a page of the region is not secret memory: nobody gets that page again."""
    with load(image, insecure_allow_missing=allowed) as enclave:
        assert enclave.under_a_file() == 0


def test_generated_code(platform: Platform, generating: Path, allowed: frozenset[str]) -> None:
    """Code in pages that were reserved closed, and in pages that were written first."""
    with load(generating, insecure_allow_missing=allowed) as enclave:
        assert enclave.of_written() == 42
        assert enclave.of_reserved() == 42


def test_code_stays_in_the_region_and_counts(
    platform: Platform, generating: Path, allowed: frozenset[str]
) -> None:
    """ENOMEM past the region's end; and code counts for the heap's bound of 512 MiB."""
    with load(generating, insecure_allow_missing=allowed) as enclave:
        assert enclave.past_the_region() == 12
        assert enclave.of_written() == 42
        assert 256 <= enclave.reserved_mib() <= 512
