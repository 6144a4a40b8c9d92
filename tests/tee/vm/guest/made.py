"""A small guest: real tools, a made-up root file system and kernel modules."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path

import pytest

from kluis.tee.image import sources
from kluis.tee.image.sources import Source
from kluis.tee.vm.guest import Guest, building, modules, needs

RELEASE = "6.12.7+deb13-cloud-amd64"
NEEDED = (*modules.EARLY_ALWAYS, *modules.EARLY_BY_DEVICE)
ROOT = (
    sources.of_bytes("etc/passwd", b"root:x:0:0::/:/nonexistent\n"),
    sources.of_bytes("usr/bin/program", b"\x7fELF" + bytes(20_000), 0o755),
    sources.of_bytes("usr/lib/data", bytes(range(256)) * 1000),
)

tools = pytest.mark.skipif(
    shutil.which("mkfs.erofs") is None or not all(path.exists() for path in needs.FILES),
    reason="apt-get install erofs-utils systemd-ukify systemd-boot-efi python3-pefile",
)


def module(
    folder: Path, name: str, *, depends: str = "", aliases: tuple[str, ...] = (), path: str = ""
) -> None:
    """A file of a kernel's module: the strings of its section of information, compressed as Debian does."""
    parts = [b"\x7fELF", b"license=GPL", *(b"alias=" + alias.encode() for alias in aliases)]
    parts.append(b"depends=" + depends.encode())
    file = folder / "kernel" / (path or f"drivers/{name.replace('_', '-')}.ko.xz")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lzma.compress(b"\0".join(parts) + b"\0"))


def kernel(folder: Path) -> Path:
    """An unpacked package of a kernel: a program for UEFI, and every module that a guest's disk needs."""
    (folder / "boot").mkdir(parents=True)
    shutil.copyfile(needs.STUB, folder / "boot" / f"vmlinuz-{RELEASE}")
    for name in NEEDED:
        module(folder / "usr/lib/modules" / RELEASE, name, aliases=(f"pci:{name}*",))
    return folder


def guest(folder: Path, unpacked: Path, root: tuple[Source, ...] = ROOT) -> Guest:
    """A guest of that kernel."""
    found = needs.find(unpacked)
    return building.assemble(folder, found, modules.Modules(found.kernel.modules), root)
