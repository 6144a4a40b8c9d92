"""Small guests for tests: Debian's own kernel, and an initial RAM disk with one static program."""

from __future__ import annotations

import fcntl
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kluis.tee.vm.machine import programs
from tests.meta import guest as debian

PROGRAMS = Path(__file__).parent / "guests"
TOOLS = ("qemu-system-x86_64", "bwrap", "gcc", "apt-get", "dpkg-deb")
CACHE = Path("/var/cache/kluis-tests")
LOCK = Path("/tmp/kluis-tcg.lock")
NEEDED = " ".join(
    package
    for package, there in (
        ("qemu-system-x86", shutil.which(programs.QEMU) is not None),
        ("seabios", programs.BIOS.exists()),
        ("ovmf", programs.OVMF_CODE.exists() and programs.OVMF_VARIABLES.exists()),
    )
    if not there
)
"""The packages that a machine needs and that are not installed."""
COMMAND_LINE = "console=ttyS0 quiet rdinit=/init panic=-1"
SECONDS = 20 * 60.0
"""Ends a hang: an emulated processor shares the machine's."""


@dataclass(frozen=True)
class Small:
    """A guest without a root disk."""

    kernel: Path
    initrd: Path
    command_line: str = COMMAND_LINE
    root: Path | None = None
    unified: Path | None = None
    digests: Mapping[str, bytes] = field(default_factory=dict)


@functools.cache
def kernel() -> Path:
    """Debian's kernel for clouds, downloaded once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "kernel").exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                debian.kernel(Path(folder)).rename(CACHE / "kernel")
    return CACHE / "kernel"


def small(folder: Path, program: str, command_line: str = "") -> Small:
    """A guest that runs ``guests/PROGRAM.c``, compiled into ``folder``."""
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(lacking)}: apt-get install qemu-system-x86 bubblewrap gcc")
    made = folder / program
    subprocess.run(["gcc", "-O2", "-static", "-o", made, PROGRAMS / f"{program}.c"], check=True)
    initrd = folder / f"{program}.cpio"
    initrd.write_bytes(cpio({"dev": b"", "init": made.read_bytes()}))
    return Small(kernel(), initrd, f"{COMMAND_LINE} {command_line}".strip())


def empty_kernel() -> bytes:
    """A kernel of zeros but for its header. Spec: Linux, "The Linux/x86 Boot Protocol"."""
    made = bytearray(64 << 10)
    made[0x1FE:0x200], made[0x202:0x206], made[0x206:0x208] = b"\x55\xaa", b"HdrS", b"\x0f\x02"
    made[0x1F1], made[0x22C:0x230] = 4, (0x7FFFFFFF).to_bytes(4, "little")
    return bytes(made)


def cpio(files: dict[str, bytes]) -> bytes:
    """An archive of programs and empty folders. Spec: Linux, "initramfs buffer format"."""
    made = b""
    console = (0o020600, b"", 5, 1)
    entries = {name: (0o100755 if data else 0o040755, data, 0, 0) for name, data in files.items()}
    entries |= {"dev/console": console, "TRAILER!!!": (0, b"", 0, 0)}
    for number, (name, (mode, data, major, minor)) in enumerate(entries.items(), 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        made += bytes(-len(made) % 4) + data
        made += bytes(-len(made) % 4)
    return made


@contextmanager
def only_one() -> Iterator[None]:
    """One emulated machine at a time, in all test runs on this machine."""
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
