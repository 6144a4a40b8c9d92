"""Choose kernel modules, and write the list from which the guest's first program loads them.

Each line of the list has a pattern and the files to load, dependencies first; the pattern ``*`` loads them
always, another one if the kernel has a device of such a name. Debian signed the modules, and the kernel
checks the signature of each after it is decompressed here.

Spec: Linux, include/linux/module.h, MODULE_INFO; depmod(8).
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError
from kluis.frozen import frozen
from kluis.tee.image import sources
from kluis.tee.image.sources import Source

MAX_BYTES: Final = 64 << 20
EARLY_ALWAYS: Final = ("dm_verity", "erofs", "sha256_ssse3")
EARLY_BY_DEVICE: Final = ("virtio_blk", "virtio_scsi", "hv_vmbus", "hv_storvsc", "pci_hyperv", "sd_mod")
LATE_ALWAYS: Final = ("configfs", "cuse", "efivarfs")
LATE_BY_DEVICE: Final = (
    "sev_guest", "tdx_guest", "nsm", "virtio_rng", "virtio_net", "hv_netvsc", "ena", "gve", "mana",
    "vmw_vsock_virtio_transport", "hv_sock",
)  # fmt: skip


@frozen
class Module:
    """One module: its code, decompressed, and its information."""

    name: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


class Modules:
    """The modules of one kernel, read when they are wanted.

    Args:
        folder: contains ``kernel``, with the modules as Debian compresses them.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = {_name(path): path for path in (folder / "kernel").rglob("*.ko*")}
        self._read: dict[str, Module] = {}
        self._folder = folder

    def get(self, name: str) -> Module:
        """Read one module.

        Raises:
            UnavailableError: the kernel does not have it, or it cannot be read.
        """
        if name not in self._read:
            path = self._paths.get(name)
            if path is None:
                raise UnavailableError(
                    f"{self._folder}: want the module {name}, got none: the guest needs it",
                    hint="apt-get install --reinstall linux-image-cloud-amd64",
                    code="guest_packages",
                )
            self._read[name] = _parse(name, _decompress(path))
        return self._read[name]

    def with_dependencies(self, name: str) -> list[Module]:
        """The module, after everything that it needs."""
        by_name: dict[str, Module] = {}

        def add(wanted: str, above: tuple[str, ...]) -> None:
            if wanted in by_name or wanted in above:
                return
            module = self.get(wanted)
            for each in module.depends:
                add(each, (*above, wanted))
            by_name[wanted] = module

        add(name, ())
        return list(by_name.values())


def files(modules: Modules, folder: str, always: Iterable[str], by_device: Iterable[str]) -> list[Source]:
    """The files of ``folder`` in a guest: the list, and the modules that it names.

    Raises:
        UnavailableError: the kernel does not have one of them.
    """
    lines: list[str] = []
    used: dict[str, Module] = {}
    for name, patterns in _list_wanted(modules, always, by_device):
        loaded = modules.with_dependencies(name)
        used |= {module.name: module for module in loaded}
        after = " ".join(f"{module.name}.ko" for module in loaded)
        lines += [f"{pattern} {after}" for pattern in patterns]
    made = [sources.of_bytes(f"{folder}/list", "".join(f"{line}\n" for line in lines).encode())]
    return made + [sources.of_bytes(f"{folder}/{module.name}.ko", module.data) for module in used.values()]


def _list_wanted(
    modules: Modules, always: Iterable[str], by_device: Iterable[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in always:
        yield name, ("*",)
    for name in by_device:
        yield name, tuple(alias for alias in modules.get(name).aliases if " " not in alias)


def _parse(name: str, data: bytes) -> Module:
    """Read the strings that a module has in its section of information."""
    depends: tuple[str, ...] = ()
    aliases: list[str] = []
    for part in data.split(b"\0"):
        key, equals, value = part.partition(b"=")
        if equals and key in (b"depends", b"alias") and value.isascii():
            text = value.decode()
            if key == b"alias":
                aliases.append(text)
            elif text:
                depends = tuple(each.replace("-", "_") for each in text.split(","))
    return Module(name, data, depends, tuple(sorted(aliases)))


def _decompress(path: Path) -> bytes:
    try:
        if path.suffix != ".xz":
            return path.read_bytes()
        with lzma.open(path) as f:
            data = f.read(MAX_BYTES + 1)
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise UnavailableError(f"{path}: cannot be read: {error}", code="guest_packages") from error
    if len(data) > MAX_BYTES:
        raise UnavailableError(f"{path}: want at most {MAX_BYTES} bytes, got more", code="guest_packages")
    return data


def _name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")
