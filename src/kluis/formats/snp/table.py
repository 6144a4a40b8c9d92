"""Parse the certificate table that a host appends to an extended report. Nothing here is verified.

The host writes it, so its contents can endorse but are never an anchor.

Spec: AMD 56421, GHCB, "SNP Extended Guest Request": entries of GUID, offset and length (u32, little-endian,
from the table's start), ended by an entry of zeros, then the certificates.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import FormatError
from kluis.formats.encoding import guid
from kluis.formats.encoding.layout import U32, Struct, at, layout
from kluis.frozen import frozen

VCEK: Final = guid.encode("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = guid.encode("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = guid.encode("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK: Final = guid.encode("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL: Final = guid.encode("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")
MAX_SIZE: Final = 256 * 1024
MAX_ENTRIES: Final = 16
_WHAT: Final = "SNP certificate table"


@layout("SNP certificate table entry", 24)
class _Entry(Struct):
    guid: bytes = at(0, 16)
    offset: int = at(16, U32)
    length: int = at(20, U32)


class Blob(NamedTuple):
    """One entry: its GUID (16 bytes), the offset of its bytes, and the bytes."""

    guid: bytes
    offset: int
    data: bytes


@frozen
class CertificateTable:
    """A certificate table.

    Attributes:
        blobs: entries in the listed order.
        size: of the whole table; bytes that no entry claims are zero.
    """

    blobs: tuple[Blob, ...]
    size: int

    def get(self, name: bytes) -> bytes | None:
        """The bytes under a GUID, or None."""
        for blob in self.blobs:
            if blob.guid == name:
                return blob.data
        return None

    def encode(self) -> bytes:
        """Write the table, ``size`` bytes."""
        out = bytearray(self.size)
        for index, blob in enumerate(self.blobs):
            entry = _Entry(guid=blob.guid, offset=blob.offset, length=len(blob.data))
            start = index * _Entry.SIZE
            out[start : start + _Entry.SIZE] = entry.encode()
            out[blob.offset : blob.offset + len(blob.data)] = blob.data
        return bytes(out)


def build(certificates: dict[bytes, bytes]) -> CertificateTable:
    """Build a table from certificates by GUID, one after the other, without padding."""
    offset = (len(certificates) + 1) * _Entry.SIZE
    blobs = []
    for name, data in certificates.items():
        blobs.append(Blob(name, offset, data))
        offset += len(data)
    return CertificateTable(tuple(blobs), offset)


def parse(data: bytes, *, base: int = 0) -> CertificateTable:
    """Parse a certificate table; zero bytes may pad it.

    Args:
        data: at most 256 KiB, at most 16 entries.
        base: offset of ``data`` in what the caller reads, for messages.

    Raises:
        FormatError: entries that overlap, repeat or pass the end, or bytes that no entry claims.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{_WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    blobs: list[Blob] = []
    position = 0
    while True:
        raw = data[position : position + _Entry.SIZE]
        entry = _Entry.parse(raw, base=base + position)
        position += _Entry.SIZE
        if raw == bytes(_Entry.SIZE):
            break
        if len(blobs) == MAX_ENTRIES:
            raise FormatError(f"{_WHAT}: more than {MAX_ENTRIES} entries", code="too_large")
        if any(blob.guid == entry.guid for blob in blobs):
            raise FormatError(f"{_WHAT}: {guid.decode(entry.guid)} appears twice", code="duplicate_key")
        end = entry.offset + entry.length
        if not entry.length or end > len(data):
            raise FormatError(
                f"{_WHAT}: {guid.decode(entry.guid)}: {entry.length} bytes at {entry.offset:#x} "
                f"of {len(data)} bytes",
                code="bad_length",
            )
        blobs.append(Blob(entry.guid, entry.offset, data[entry.offset : end]))
    _check_places(blobs, position)
    table = CertificateTable(tuple(blobs), len(data))
    written = table.encode()
    if written != data:
        at_fault = next(i for i, (want, got) in enumerate(zip(written, data, strict=True)) if want != got)
        raise FormatError(
            f"{_WHAT} at {base + at_fault:#x}: must be zero, found {data[at_fault]:#04x}",
            code="trailing_data",
        )
    return table


def _check_places(blobs: list[Blob], start: int) -> None:
    for blob in sorted(blobs, key=lambda blob: blob.offset):
        if blob.offset < start:
            raise FormatError(
                f"{_WHAT}: {guid.decode(blob.guid)} at {blob.offset:#x} overlaps what is before it",
                code="bad_length",
            )
        start = blob.offset + len(blob.data)
