"""Parse a guest firmware image (OVMF): its GUID table, and the sections that a launch measures.

The table ends 32 bytes before the end of the image and is read backwards: each entry is its data, its size
(u16, including the 18 bytes of size and GUID) and its GUID. Integers are little-endian.

Spec: EDK II, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm and OvmfPkg/ResetVector/X64/ OvmfSevMetadata.asm;
QEMU, hw/i386/pc_sysfw_ovmf.c.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import guid
from kluis.formats.encoding.layout import U16, U32, Struct, at, layout
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

PAGE: Final = 4096
MAX_SIZE: Final = 64 << 20
MAX_SECTIONS: Final = 256
MAX_SECTION_SIZE: Final = 1 << 30
FOOTER: Final = guid.encode("96b582de-1fb2-45f7-baea-a366c55a082d")
HASH_TABLE: Final = guid.encode("7255371f-3a3b-4b04-927b-1da6efa8d454")
RESET_BLOCK: Final = guid.encode("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
METADATA: Final = guid.encode("dc886566-984a-4798-a75e-5585a7bf67cc")
FROM_END: Final = 32
_WHAT: Final = "OVMF"


class SectionKind(enum.IntEnum):
    """The purpose of a section of guest memory."""

    MEMORY = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CALLING_AREA = 4
    KERNEL_HASHES = 0x10


@layout("OVMF table entry", 18)
class _Tail(Struct):
    size: int = at(0, U16)
    guid: bytes = at(2, 16)


@layout("OVMF SEV metadata", 16)
class _Header(Struct):
    signature: bytes = at(0, 4)
    size: int = at(4, U32)
    version: int = at(8, U32)
    count: int = at(12, U32)


@layout("OVMF SEV section", 12)
class _Section(Struct):
    address: int = at(0, U32)
    size: int = at(4, U32)
    kind: int = at(8, U32)


@frozen
class Section:
    """One section: whole pages of guest memory, by guest physical address and size in bytes."""

    address: int
    size: int
    kind: SectionKind


@frozen(eq=False)
class Firmware:
    """A firmware image.

    Attributes:
        data: the image, whole pages; it ends at 4 GiB of guest memory.
        table: its entries by GUID (16 bytes).
        sections: from its SEV metadata; empty if it has none.
    """

    data: bytes
    table: Mapping[bytes, bytes]
    sections: tuple[Section, ...]

    @property
    def address(self) -> int:
        """Its start address in guest memory."""
        return (1 << 32) - len(self.data)

    @property
    def reset_address(self) -> int:
        """The address at which every processor except the first starts.

        Raises:
            FormatError: the firmware does not state it.
        """
        return self._address(RESET_BLOCK, "reset block")

    @property
    def hash_table_address(self) -> int:
        """The address from which it reads the hashes of kernel, initrd and command line.

        Raises:
            FormatError: it does not read any.
        """
        return self._address(HASH_TABLE, "table of kernel hashes")

    def _address(self, name: bytes, what: str) -> int:
        entry = self.table.get(name, b"")
        value = int.from_bytes(entry[:4], "little") if len(entry) >= 4 else 0
        if not value:
            raise FormatError(f"{_WHAT}: names no {what} ({guid.decode(name)})", code="bad_type")
        return value


def parse(data: bytes) -> Firmware:
    """Parse a firmware image.

    Args:
        data: whole pages, at most 64 MiB.

    Raises:
        UnsupportedError: metadata of another version, or a section of an unknown kind.
        FormatError: no such table, or lengths that do not fit.
    """
    if not data or len(data) % PAGE or len(data) > MAX_SIZE:
        raise FormatError(
            f"{_WHAT}: is {len(data)} bytes, must be 4 KiB to {MAX_SIZE >> 20} MiB in whole pages",
            code="bad_length",
        )
    table = _table(data)
    return Firmware(data, table, _sections(data, table))


def _table(data: bytes) -> dict[bytes, bytes]:
    end = len(data) - FROM_END
    start = end - _Tail.SIZE
    footer = _Tail.parse(data[start:end], base=start)
    if footer.guid != FOOTER:
        raise FormatError(f"{_WHAT} at {start:#x}: has no table of GUIDs", code="bad_magic")
    first = end - footer.size
    if footer.size < _Tail.SIZE or first < 0:
        raise FormatError(f"{_WHAT} at {start:#x}: table of {footer.size} bytes", code="bad_length")
    entries: dict[bytes, bytes] = {}
    position = start
    while position > first:
        tail_at = position - _Tail.SIZE
        if tail_at < first:
            raise FormatError(f"{_WHAT} at {position:#x}: entry is cut short", code="truncated")
        tail = _Tail.parse(data[tail_at:position], base=tail_at)
        begin = position - tail.size
        if tail.size < _Tail.SIZE or begin < first:
            raise FormatError(f"{_WHAT} at {tail_at:#x}: entry of {tail.size} bytes", code="bad_length")
        if tail.guid in entries:
            raise FormatError(
                f"{_WHAT} at {tail_at:#x}: {guid.decode(tail.guid)} appears twice", code="duplicate_key"
            )
        entries[tail.guid] = data[begin:tail_at]
        position = begin
    return entries


def _sections(data: bytes, table: Mapping[bytes, bytes]) -> tuple[Section, ...]:
    entry = table.get(METADATA)
    if entry is None:
        return ()
    from_end = int.from_bytes(entry[:4], "little")
    if len(entry) < 4 or from_end > len(data):
        raise FormatError(f"{_WHAT}: SEV metadata are {from_end} bytes before the end", code="bad_length")
    start = len(data) - from_end
    r = Reader(data[start:], f"{_WHAT} SEV metadata", start)
    header = _Header.parse(r.take(_Header.SIZE, "header"), base=start)
    if header.signature != b"ASEV" or header.version != 1:
        raise UnsupportedError(
            f"{_WHAT} SEV metadata: want ASEV version 1, got {header.signature!r} version {header.version}",
            code="bad_version",
        )
    if header.count > MAX_SECTIONS or header.size != _Header.SIZE + header.count * _Section.SIZE:
        raise FormatError(
            f"{_WHAT} SEV metadata: {header.count} sections in {header.size} bytes", code="bad_length"
        )
    return tuple(_section(r) for _ in range(header.count))


def _section(r: Reader) -> Section:
    raw = _Section.parse(r.take(_Section.SIZE, "section"))
    try:
        kind = SectionKind(raw.kind)
    except ValueError:
        raise UnsupportedError(
            f"{r.what}: section of kind {raw.kind:#x} is not known", code="bad_type"
        ) from None
    if raw.address % PAGE or not raw.size or raw.size % PAGE or raw.size > MAX_SECTION_SIZE:
        raise FormatError(
            f"{r.what}: section of {raw.size:#x} bytes at {raw.address:#x} is not whole pages",
            code="bad_length",
        )
    return Section(raw.address, raw.size, kind)
