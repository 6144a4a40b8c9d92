"""Root searches a machine's QEMU for what the guest keeps in its memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kluis.tee.doctor import attempts as doctor
from kluis.tee.vm.machine import machine as machines
from kluis.tee.vm.machine.machine import GUEST_MEMORY, Machine
from tests.adversary import attacks
from tests.tee.vm.machine import guest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="it is root who searches"),
]
WORDS = 100_000
CHUNK = 8 << 20
SYS_PIDFD_GETFD = 438
MASK = (1 << 64) - 1


def _planted(seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The words of ``guests/plant.c``, sorted."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(1, WORDS + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.sort(z ^ (z >> np.uint64(31)))


class Search:
    """Which of the words were seen in the bytes that were read."""

    def __init__(self, words: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
        self.words = words
        self.seen: set[int] = set()
        self.read_bytes = 0

    def look(self, data: bytes) -> None:
        """Count the words in ``data``, at each alignment."""
        self.read_bytes += len(data)
        if not data.strip(b"\0"):
            return
        for start in range(8):
            usable = (len(data) - start) // 8 * 8
            there = np.frombuffer(data, np.uint64, usable // 8, start)
            there = there[there != 0]
            at = np.searchsorted(self.words, there).clip(max=WORDS - 1)
            self.seen.update(map(int, there[self.words[at] == there]))


def by_memory_file(pid: int, search: Search) -> None:
    """Read /proc/PID/mem of a process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            for at in range(start, end, CHUNK):
                try:
                    search.look(os.pread(memory.fileno(), min(CHUNK, end - at), at))
                except (OSError, OverflowError):
                    continue


def by_gcore(pid: int, search: Search, folder: Path) -> None:
    """Read the core that gcore writes."""
    attacks.tool("gcore", "-a", "-o", str(folder / "core"), str(pid))
    for core in folder.glob("core*"):
        with core.open("rb") as f:
            while chunk := f.read(CHUNK):
                search.look(chunk)
        core.unlink()


def by_gdb(pid: int, search: Search, folder: Path) -> None:
    """Have gdb dump the largest mapping, which is the guest's memory."""

    def size(line: str) -> int:
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        return end - start if line.split()[1].startswith("rw") else 0

    largest = max(Path(f"/proc/{pid}/maps").read_text().splitlines(), key=size)
    start, end = largest.split()[0].split("-")
    dump = folder / "dump"
    command = f"dump binary memory {dump} 0x{start} 0x{end}"
    attacks.tool("gdb", "-p", str(pid), "-batch", "-nx", "-ex", command)
    if dump.exists():
        search.look(dump.read_bytes())


def by_descriptor(pid: int, search: Search) -> None:
    """Duplicate each of its descriptors, and map those that can be mapped."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    for name in os.listdir(f"/proc/{pid}/fd"):
        stolen = libc.syscall(SYS_PIDFD_GETFD, pidfd, int(name), 0)
        if stolen < 0:
            continue
        try:
            with mmap.mmap(stolen, 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
                search.look(mapped[:])
        except (OSError, ValueError):
            pass
        finally:
            os.close(stolen)
    os.close(pidfd)


@pytest.fixture
def seed() -> int:
    """Of the words."""
    return secrets.randbits(64)


def _running(folder: Path, seed: int) -> Iterator[Machine]:
    """A machine whose guest has planted the words, and has them at the end too."""
    planting = guest.small(folder, "plant", f"seed={seed:016x}")
    with guest.only_one(), Machine.start(planting, memory_mb=256, accelerator="tcg") as machine:
        machine.await_first(0, guest.SECONDS)
        assert machine.port(0).recv(100) == b"%d\n" % WORDS
        yield machine
        machine.port(0).send(b"?")
        machine.await_first(0, guest.SECONDS)
        assert machine.port(0).recv(100) == b"%d\n" % WORDS


def test_root_finds_nothing(tmp_path: Path, seed: int) -> None:
    """Neither in QEMU's memory file, nor by gcore, gdb or QEMU's descriptors; the guest has all of them."""
    for machine in _running(tmp_path, seed):
        assert machine.missing == frozenset()
        search = Search(_planted(seed))
        by_memory_file(machine.pid, search)
        assert search.read_bytes > 32 << 20  # it did read: the rest of QEMU
        by_gcore(machine.pid, search, tmp_path)
        by_gdb(machine.pid, search, tmp_path)
        by_descriptor(machine.pid, search)

        assert search.seen == set()


def test_registers_are_in_qemus_memory(tmp_path: Path, seed: int) -> None:
    """QEMU keeps the virtual processor's registers in its own memory, where root finds them."""
    holding = guest.small(tmp_path, "held", f"seed={seed:016x}")
    word = (seed ^ 0x5555555555555555).to_bytes(8, "little")
    with guest.only_one(), Machine.start(holding, memory_mb=256, accelerator="tcg") as machine:
        machine.await_first(0, guest.SECONDS)
        until = time.monotonic() + guest.SECONDS
        # Between two pauses it is in a register of this machine's processor, not in memory.
        while not doctor.by_memory_file(machine.pid, word).copies:
            assert time.monotonic() < until


def test_without_the_library(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way finds all of them, and the machine states that its memory is not secret."""
    monkeypatch.setattr(machines, "_library", lambda: None)
    for machine in _running(tmp_path, seed):
        assert machine.missing == {GUEST_MEMORY, "guardian"}
        for way in (by_memory_file, by_gcore, by_gdb):
            search = Search(_planted(seed))
            way(machine.pid, search, *([] if way is by_memory_file else [tmp_path]))  # type: ignore[operator]

            assert len(search.seen) == WORDS, way.__name__


def test_secret_memory_whose_descriptor_stays_open(tmp_path: Path, seed: int) -> None:
    """Root duplicates the descriptor of secret memory and reads it: so QEMU's is closed once it is mapped."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = _planted(seed)
    secret = libc.syscall(447, os.O_CLOEXEC)
    os.ftruncate(secret, words.nbytes)
    with mmap.mmap(secret, words.nbytes) as mapped:
        mapped[:] = words.tobytes()
        search = Search(words)
        by_descriptor(os.getpid(), search)
        assert len(search.seen) == WORDS
    os.close(secret)
