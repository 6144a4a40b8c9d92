"""Which accelerator a machine gets: KVM only where it was seen to boot the guest's kernel, else TCG."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import msgspec

from kluis import files
from kluis.tee.doctor import kvm

ACCELERATORS = ("kvm", "tcg")
BOOT_SECONDS = 20
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Kept(msgspec.Struct):
    key: list[str]
    chosen: str


@functools.cache
def choose(qemu: Path, kernel: Path) -> str:
    """``kvm`` if this kernel's first output was seen under it, else ``tcg``; tried once in each process.

    A KVM that hangs costs 80 seconds at most.
    """
    if not os.access(kvm.DEVICE, os.R_OK | os.W_OK) or kvm.halts():
        return "tcg"
    return "tcg" if kvm.boots(str(qemu), kernel, BOOT_SECONDS) else "kvm"


def devices(accelerator: str) -> tuple[str, ...]:
    """The device files that QEMU needs for it."""
    return (kvm.DEVICE,) if accelerator == "kvm" else ()


def groups(accelerator: str) -> tuple[int, ...]:
    """The groups that QEMU needs for it: the device's."""
    return (os.stat(kvm.DEVICE).st_gid,) if accelerator == "kvm" else ()


def available_bytes() -> int:
    """Memory that programs may use without swapping, as the kernel estimates it."""
    for row in Path("/proc/meminfo").read_text("ascii").splitlines():
        if row.startswith("MemAvailable:"):
            return int(row.split()[1]) << 10
    return 0


def choose_cached(folder: Path, qemu: Path, kernel: Path) -> str:
    """The same, tried once in each boot of this machine for each kernel; the answer is in ``folder``.

    A guest that was built again has the same kernel in another file.
    """
    with kernel.open("rb") as file:
        key = [BOOT_ID.read_text("ascii").strip(), hashlib.file_digest(file, "sha256").hexdigest()]
    path = folder / "acceleration.json"
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):
        record = None
    if record is None or record.key != key or record.chosen not in ACCELERATORS:
        record = _Kept(key, choose(qemu, kernel))
        files.write(path, msgspec.json.encode(record))
    return record.chosen
