"""Less usual means of the kernel: control groups of cgroup v1, and reading by io_uring."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adversary import attacks

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def group(controller: str) -> Iterator[Path]:
    """A control group of this test's own, of cgroup v1; what is in it moves back at the end."""
    above = Path("/sys/fs/cgroup") / controller
    if not (above / "cgroup.procs").exists():
        pytest.skip(f"no {controller} hierarchy of cgroup v1")
    made = Path(tempfile.mkdtemp(prefix="kluis-adversary-", dir=above))
    try:
        yield made
    finally:
        for pid in (made / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (above / "cgroup.procs").write_text(pid)
        until = time.monotonic() + attacks.SOON
        while time.monotonic() < until:
            try:
                made.rmdir()
                break
            except OSError:
                time.sleep(0.01)


@contextlib.contextmanager
def frozen(place: Path, *pids: int) -> Iterator[None]:
    """Keep processes from running, by a group of the freezer; they run on afterwards."""
    for pid in pids:
        (place / "cgroup.procs").write_text(str(pid))
    try:
        until = time.monotonic() + attacks.SOON
        (place / "freezer.state").write_text("FROZEN")
        while (place / "freezer.state").read_text() != "FROZEN\n" and time.monotonic() < until:
            time.sleep(0.0005)
            (place / "freezer.state").write_text("FROZEN")  # a task can miss the first
        assert (place / "freezer.state").read_text() == "FROZEN\n"
        yield
    finally:
        (place / "freezer.state").write_text("THAWED")


SETUP, ENTER, READ = 425, 426, 22


class Ring:
    """An io_uring of one entry, which reads files in the kernel's own time."""

    def __init__(self) -> None:
        parameters = bytearray(120)
        pointer = (ctypes.c_char * 120).from_buffer(parameters)
        self.fd = _libc.syscall(SETUP, 1, pointer)
        if self.fd < 0:
            pytest.skip("no io_uring in this kernel")
        entries, completed = struct.unpack_from("II", parameters)
        self.sq = struct.unpack_from("8I", parameters, 40)
        self.cq = struct.unpack_from("8I", parameters, 80)
        shared = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self.submitted = mmap.mmap(self.fd, self.sq[6] + entries * 4, flags=shared, offset=0)
        self.completed = mmap.mmap(self.fd, self.cq[5] + completed * 16, flags=shared, offset=0x8000000)
        self.entry = mmap.mmap(self.fd, entries * 64, flags=shared, offset=0x10000000)
        self.mask = struct.unpack_from("I", self.completed, self.cq[2])[0]

    def read(self, file: int, at: int, size: int) -> bytes:
        """Read a span of a file; what came."""
        page = mmap.mmap(-1, size)
        address = ctypes.addressof((ctypes.c_char * size).from_buffer(page))
        struct.pack_into("BBHiQQI", self.entry, 0, READ, 0, 0, file, at, address, size)
        tail = struct.unpack_from("I", self.submitted, self.sq[1])[0]
        struct.pack_into("I", self.submitted, self.sq[6], 0)
        struct.pack_into("I", self.submitted, self.sq[1], tail + 1)
        assert _libc.syscall(ENTER, self.fd, 1, 1, 1, None, 0) == 1
        head = struct.unpack_from("I", self.completed, self.cq[0])[0]
        got = struct.unpack_from("i", self.completed, self.cq[5] + (head & self.mask) * 16 + 8)[0]
        struct.pack_into("I", self.completed, self.cq[0], head + 1)
        return page[: max(got, 0)]


def by_ring(pid: int, needle: bytes) -> tuple[int, int]:
    """Read all of a process's memory through an io_uring: bytes got, copies of the needle in them."""
    ring, total, found = Ring(), 0, 0
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.split()[1].startswith("r") and "[v" not in line:
                low, high = (int(end, 16) for end in line.split()[0].split("-"))
                for at in range(low, high, 1 << 22):
                    data = ring.read(memory, at, min(high - at, 1 << 22))
                    total += len(data)
                    found += data.count(needle)
    finally:
        os.close(memory)
        os.close(ring.fd)
    return total, found
