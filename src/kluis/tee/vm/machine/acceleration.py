"""Which accelerator a machine gets: KVM only where it was seen to boot the guest's kernel, else TCG."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from kluis.tee.doctor import kvm

BOOT_SECONDS = 20


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
