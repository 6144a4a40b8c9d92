"""Read a program for UEFI: its sections, and the hash of it that firmware measures.

Spec: Microsoft, "PE Format"; Microsoft, "Windows Authenticode Portable Executable Signature Format",
"Calculating the PE Image Hash". Integers are little-endian; only 64-bit images (PE32+) are read.
"""

from __future__ import annotations

import hashlib
from typing import Final

from kluis.errors import FormatError
from kluis.frozen import frozen
from kluis.hashes import Algorithm

MAX_SECTIONS: Final = 96
_HEADER_POINTER: Final = 0x3C
_COFF: Final = 24
_PE32_PLUS: Final = 0x20B
_HEADERS_SIZE: Final = 60
_CHECKSUM: Final = 64
_DIRECTORIES: Final = 108
_CERTIFICATES: Final = 112 + 4 * 8
_SECTION: Final = 40


@frozen
class Section:
    """A section: its name, and where it is in the file; ``size`` is without padding."""

    name: str
    start: int
    raw_size: int
    size: int


@frozen
class Program:
    """A program for UEFI.

    Attributes:
        data: the file.
        sections: in the order of the table.
    """

    data: bytes
    sections: tuple[Section, ...]
    _optional: int
    _headers: int
    _certificates: int

    def content(self, name: str) -> bytes | None:
        """The data of the first section of that name, without padding; None if there is none."""
        section = next((each for each in self.sections if each.name == name), None)
        return None if section is None else self.data[section.start : section.start + section.size]

    def hash(self, algorithm: Algorithm) -> bytes:
        """The Authenticode hash: everything but the checksum and the signatures."""
        got = hashlib.new(algorithm)
        checksum = self._optional + _CHECKSUM
        directory = self._optional + _CERTIFICATES
        got.update(self.data[:checksum])
        got.update(self.data[checksum + 4 : directory])
        got.update(self.data[directory + 8 : self._headers])
        hashed = self._headers
        for each in sorted(self.sections, key=lambda section: section.start):
            got.update(self.data[each.start : each.start + each.raw_size])
            hashed += each.raw_size
        end = len(self.data) - self._certificates
        if end > hashed:
            got.update(self.data[hashed:end])
        return got.digest()


def parse(data: bytes, what: str) -> Program:
    """Read a program.

    Args:
        data: the file.
        what: its name, for errors.

    Raises:
        FormatError: not a program for x86-64 UEFI, or its tables are inconsistent.
    """

    def number(offset: int, size: int) -> int:
        if offset + size > len(data):
            raise FormatError(f"{what}: header at {offset:#x}: passes the end")
        return int.from_bytes(data[offset : offset + size], "little")

    header = number(_HEADER_POINTER, 4)
    if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
        raise FormatError(f"{what}: want a program for UEFI, got something else")
    optional = header + _COFF
    count, size = number(header + 6, 2), number(header + 20, 2)
    if (
        number(optional, 2) != _PE32_PLUS
        or size < _CERTIFICATES + 8
        or number(optional + _DIRECTORIES, 4) < 5
    ):
        raise FormatError(f"{what}: want a 64-bit program with a table of certificates, got another")
    if count > MAX_SECTIONS:
        raise FormatError(f"{what}: want at most {MAX_SECTIONS} sections, got {count}")
    headers = number(optional + _HEADERS_SIZE, 4)
    if headers > len(data):
        raise FormatError(f"{what}: headers of {headers} bytes: pass the end")
    sections = []
    for at in range(optional + size, optional + size + _SECTION * count, _SECTION):
        virtual, raw, start = number(at + 8, 4), number(at + 16, 4), number(at + 20, 4)
        name = data[at : at + 8].rstrip(b"\0").decode("ascii", "replace")
        if start + raw > len(data):
            raise FormatError(f"{what}: section {name!a}: passes the end")
        if raw:
            sections.append(Section(name, start, raw, min(virtual, raw)))
    certificates = number(optional + _CERTIFICATES + 4, 4)
    if certificates > len(data):
        raise FormatError(f"{what}: certificates of {certificates} bytes: pass the end")
    return Program(data, tuple(sections), optional, headers, certificates)
