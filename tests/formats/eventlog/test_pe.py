"""Programs for UEFI: sections without their padding, and the hash that leaves signatures out."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest

from kluis.errors import FormatError
from kluis.formats.eventlog import pe

SECTIONS: Final = ((b".text", b"code" * 100), (b".linux", b"kernel"), (b".empty", b""))
_HEADER, _OPTIONAL, _HEADERS = 0x40, 0x58, 0x400


def _le(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _program(
    certificates: int = 0, checksum: int = 0, sections: tuple[tuple[bytes, bytes], ...] = SECTIONS
) -> bytes:
    """A program of 64 bits with some sections, each in whole blocks of 512 bytes."""
    head = b"MZ".ljust(0x3C, b"\0") + _le(_HEADER, 4)
    head += b"PE\0\0" + _le(0x8664, 2) + _le(len(sections), 2) + bytes(12) + _le(240, 2) + bytes(2)
    optional = bytearray(240)
    optional[:2] = _le(0x20B, 2)
    optional[60:64] = _le(_HEADERS, 4)
    optional[64:68] = _le(checksum, 4)
    optional[108:112] = _le(16, 4)
    table, body = b"", b""
    for name, data in sections:
        raw = data.ljust(-(-len(data) // 512) * 512, b"\0")
        start = _HEADERS + len(body) if raw else 0
        table += (
            name.ljust(8, b"\0") + _le(len(data), 4) + bytes(4) + _le(len(raw), 4) + _le(start, 4) + bytes(16)
        )
        body += raw
    if certificates:
        optional[144:148] = _le(_HEADERS + len(body), 4)
        optional[148:152] = _le(certificates, 4)
    return (head + bytes(optional) + table).ljust(_HEADERS, b"\0") + body + bytes(certificates)


PROGRAM: Final = _program()
FIELDS: Final = (
    (0, b"XX", "x: want a program for UEFI, got something else"),
    (_HEADER, b"NE", "x: want a program for UEFI, got something else"),
    (0x3C, _le(0x7FFFFFFF, 4), "x: want a program for UEFI, got something else"),
    (_HEADER + 6, _le(97, 2), "x: want at most 96 sections, got 97"),
    (_HEADER + 20, _le(151, 2), "x: want a 64-bit program with a table of certificates, got another"),
    (_OPTIONAL, _le(0x10B, 2), "x: want a 64-bit program with a table of certificates, got another"),
    (_OPTIONAL + 108, _le(4, 4), "x: want a 64-bit program with a table of certificates, got another"),
    (_OPTIONAL + 60, _le(1 << 20, 4), "x: headers of 1048576 bytes: pass the end"),
    (_OPTIONAL + 148, _le(1 << 20, 4), "x: certificates of 1048576 bytes: pass the end"),
    (_OPTIONAL + 240 + 16, _le(1 << 20, 4), "x: section '.text': passes the end"),
)  # fmt: skip


def test_sections_are_read_without_padding() -> None:
    """A section's content ends where its data does; one without data is not there."""
    found = pe.parse(PROGRAM, "x")
    assert [(each.name, each.size, each.raw_size) for each in found.sections] == [
        (".text", 400, 512),
        (".linux", 6, 512),
    ]
    assert found.content(".linux") == b"kernel"
    assert found.content(".initrd") is None


def test_the_hash_leaves_checksum_and_signatures_out() -> None:
    """Everything else is hashed, in the order of the file."""
    checksum, directory = _OPTIONAL + 64, _OPTIONAL + 144
    rest = PROGRAM[:checksum] + PROGRAM[checksum + 4 : directory] + PROGRAM[directory + 8 :]
    assert pe.parse(PROGRAM, "x").hash("sha384") == hashlib.sha384(rest).digest()
    signed = _program(certificates=64, checksum=0xFFFFFFFF)
    assert pe.parse(signed, "x").hash("sha384") == hashlib.sha384(rest).digest()
    assert pe.parse(PROGRAM + b"more", "x").hash("sha384") == hashlib.sha384(rest + b"more").digest()


def test_the_order_of_the_table_does_not_count() -> None:
    """Sections are hashed by their place in the file."""
    first, second = _OPTIONAL + 240, _OPTIONAL + 280
    swapped = bytearray(PROGRAM)
    swapped[first : first + 40], swapped[second : second + 40] = (
        PROGRAM[second : second + 40],
        PROGRAM[first : first + 40],
    )
    checksum, directory = _OPTIONAL + 64, _OPTIONAL + 144
    rest = bytes(swapped[:checksum] + swapped[checksum + 4 : directory] + swapped[directory + 8 :])
    assert pe.parse(bytes(swapped), "x").hash("sha256") == hashlib.sha256(rest).digest()


@pytest.mark.parametrize(("offset", "value", "message"), FIELDS)
def test_a_wrong_field_is_refused(offset: int, value: bytes, message: str) -> None:
    """The error states the field."""
    data = bytearray(PROGRAM)
    data[offset : offset + len(value)] = value
    with pytest.raises(FormatError) as refused:
        pe.parse(bytes(data), "x")
    assert refused.value.message == message


@pytest.mark.parametrize("size", [0, 1, 0x3F, 0x40, 0x57, 0x58, 0x100, 0x147, 0x1A0])
def test_a_cut_program_is_refused(size: int) -> None:
    """A program that ends within its headers is malformed."""
    with pytest.raises(FormatError):
        pe.parse(PROGRAM[:size], "x")
