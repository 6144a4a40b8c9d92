"""Encrypted scratch: its backing, and what programs do to files, done to files in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.host import EnclaveProxy, load
from kluis.tee.platform.launching import scratch
from tests.images import ALLOWED, built

__all__ = ["built"]

SIZE = 16 << 20


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of the test's own, as the platform's is its state."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_backing_has_no_name(here: Path) -> None:
    """It has its size, its space, and no name from the moment it is there."""
    made = scratch.backing("abc", 1 << 20)
    found = os.fstat(made)
    os.close(made)

    assert list(here.iterdir()) == []
    assert (found.st_size, found.st_nlink) == (1 << 20, 0)
    assert found.st_blocks * 512 >= 1 << 20


def test_a_full_disk_refuses_the_launch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not hold it refuses the launch and keeps nothing."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnavailableError, match="want 1048576 bytes of disk, got: No space left on device"):
        scratch.backing("abc", 1 << 20)

    assert len(os.listdir("/proc/self/fd")) == before
    assert list(here.iterdir()) == []


@pytest.fixture
def enclave(built: Callable[..., Path]) -> Iterator[EnclaveProxy]:
    """An enclave with 16 MiB of scratch, empty."""
    with load(built(Path(__file__).parents[1] / "scratched"), insecure_allow_missing=ALLOWED) as running:
        yield running


ANSWERS = {
    "where": ["/scratch", "True", "EPERM"],
    "round_trip": ["0"],
    "model": ["3000", "0"],
    "holes": ["4096", "1048576", "0"],
    "opening": [
        "ENOENT", "EEXIST", "onetwothree", "ENOTDIR", "EISDIR", "ENOENT", "ENAMETOOLONG", "EBADF", "EBADF",
        "EPERM", "shorter", "nameless0",
    ],
    "names": [
        "e/,one,two", "ENOTEMPTY", "EISDIR", "EINVAL", "EXDEV", "21", "e,three,two",
        "copied,copied/e,copied/three,copied/two,moved,moved/e,moved/three,moved/two", "[]",
    ],
    "descriptors": ["abcdef", "EAGAIN", "nothing", "efabcd", "ENODEV", "11996", "7", "EBADF"],
    "full": ["ENOSPC", str(SIZE), "ENOSPC", str(SIZE)],
    "libraries": ["True 100000", "True", "70000", "(20000, 199990000)", "a stream True 0", "[]"],
    "backing": [
        "read EBADF", "write EBADF", "close EBADF", "mmap EBADF", "dup EBADF", "dup2 EBADF", "fcntl EBADF",
        "ftruncate EBADF", "EBADF EBADF", "still here",
    ],
}  # fmt: skip


@pytest.mark.parametrize("call", ANSWERS)
def test_files(enclave: EnclaveProxy, call: str) -> None:
    """What a program does to files, as the enclave's own words for it say."""
    assert getattr(enclave, call)() == ANSWERS[call]


def test_many_threads(enclave: EnclaveProxy) -> None:
    """Twenty threads at once, each with separate files and a shared one, find what they wrote."""
    assert enclave.threads(20) == 20


def test_what_was_launched_says_so(enclave: EnclaveProxy) -> None:
    """The size is in the launch configuration that the evidence carries."""
    assert LaunchConfiguration.parse(enclave.launch_configuration).scratch_bytes == SIZE
