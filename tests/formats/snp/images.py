"""Firmware images like OVMF's, made by tests: pages, a table of GUIDs, SEV metadata."""

from __future__ import annotations

from typing import Final

from kluis.formats.snp import firmware
from kluis.formats.snp.firmware import SectionKind

RESET: Final = 0x0080B004
HASHES: Final = 0x0080_FC00
SECTIONS: Final = (
    (0x00800000, 0x9000, SectionKind.MEMORY),
    (0x0080A000, 0x3000, SectionKind.MEMORY),
    (0x0080D000, 0x1000, SectionKind.SECRETS),
    (0x0080E000, 0x1000, SectionKind.CPUID),
    (0x0080F000, 0x1000, SectionKind.KERNEL_HASHES),
    (0x00810000, 0x2000, SectionKind.SVSM_CALLING_AREA),
)
FROM_END: Final = 0x800


def entry(guid: bytes, data: bytes) -> bytes:
    """One entry of the table, its data first."""
    return data + (len(data) + 18).to_bytes(2, "little") + guid


def metadata(sections: tuple[tuple[int, int, int], ...] = SECTIONS, version: int = 1) -> bytes:
    """SEV metadata that list sections."""
    listed = b"".join(
        b"".join(part.to_bytes(4, "little") for part in (address, size, int(kind)))
        for address, size, kind in sections
    )
    sizes = (16 + len(listed), version, len(sections))
    return b"ASEV" + b"".join(part.to_bytes(4, "little") for part in sizes) + listed


def default_entries() -> tuple[bytes, ...]:
    """Reset block, table of kernel hashes, and the offset of the metadata."""
    return (
        entry(firmware.HASH_TABLE, HASHES.to_bytes(4, "little") + (0x400).to_bytes(4, "little")),
        entry(firmware.METADATA, FROM_END.to_bytes(4, "little")),
        entry(firmware.RESET_BLOCK, RESET.to_bytes(4, "little")),
    )


def image(
    entries: tuple[bytes, ...] | None = None,
    meta: bytes | None = None,
    pages: int = 3,
    *,
    footer: bytes = firmware.FOOTER,
    size: int | None = None,
) -> bytes:
    """A firmware image whose parts may be replaced; ``size`` lies about the table's."""
    data = bytearray(bytes(range(256)) * (16 * pages))
    listed = b"".join(default_entries() if entries is None else entries)
    total = len(listed) + 18 if size is None else size
    table = listed + total.to_bytes(2, "little") + footer
    data[len(data) - 32 - len(table) : len(data) - 32] = table
    start = len(data) - FROM_END
    meta = metadata() if meta is None else meta
    data[start : start + len(meta)] = meta
    return bytes(data)
