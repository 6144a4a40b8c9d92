"""Parse NVIDIA's own fields in a report: versions, board, firmware id, states.

In the later form a header precedes them, and each field states the kind of its value. Spec: NVIDIA
attestation SDK 2026-05, "opaque data"; the names are those of its field identifiers. Integers are
little-endian.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.layout import U8, U16, Struct, at, layout
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

MAX_FIELDS: Final = 64
FWID_SIZE: Final = 48
PDI_SIZE: Final = 8
_WHAT: Final = "NVIDIA report.opaque"
_MAGIC: Final = b"NVDAOD"
_HEADER_SIZE: Final = 12
MAX_MAJOR: Final = 2
_TEXT: Final = re.compile(rb"[ -~]{1,63}\0*")


class Field(enum.IntEnum):
    """The type of a field; unknown types are preserved but not interpreted."""

    CERT_ISSUER_NAME = 1
    CERT_AUTHORITY_KEY_IDENTIFIER = 2
    DRIVER_VERSION = 3
    GPU_INFO = 4
    SKU = 5
    VBIOS_VERSION = 6
    MANUFACTURER_ID = 7
    NVDEC0_STATUS = 11
    MSRSCNT = 12
    CPRINFO = 13
    BOARD_ID = 14
    CHIP_SKU = 15
    CHIP_SKU_MOD = 16
    PROJECT = 17
    PROJECT_SKU = 18
    PROJECT_SKU_MOD = 19
    FWID = 20
    PROTECTED_PCIE_STATUS = 21
    SWITCH_PDI = 22
    FLOORSWEPT_PORTS = 23
    POSITION_ID = 24
    LOCK_SWITCH_STATUS = 25
    SWITCH_GPU_PDIS = 26
    GPU_LINK_CONN = 32
    SYS_ENABLE_STATUS = 33
    OPAQUE_DATA_VERSION = 34
    CHIP_INFO = 35
    FEATURE_FLAG = 36
    FSP_UCODE_SVN = 37


class Feature(enum.IntEnum):
    """How the device is passed through: by itself, with others, or with links in the clear."""

    SINGLE_PASS_THROUGH = 0
    MULTIPLE_PASS_THROUGH = 1
    PROTECTED_PCIE = 2


_ENABLED: Final = {b"\xaa": True, b"\x55": False}


@layout("NVIDIA report.opaque header", _HEADER_SIZE)
class Header(Struct):
    """The header of the later form: a profile, which is 0, and a version."""

    magic: bytes = at(0, 6)
    profile: int = at(6, U16)
    major: int = at(8, U8)
    minor: int = at(9, U8)


@frozen
class Opaque:
    """Fields by type, in their order.

    Attributes:
        fields: bytes.
        header: of the later form; None for the earlier one.
        value_types: in the later form, the stated kind of each field's value; not interpreted.
    """

    fields: Mapping[int, bytes]
    header: Header | None = None
    value_types: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, measurements: int, base: int = 0) -> Self:
        """Parse all fields.

        Args:
            data: only the opaque bytes.
            measurements: their number in the report.
            base: offset of ``data`` in the report, for messages.

        Raises:
            FormatError: a field is cut short, is repeated, or has the wrong size.
            UnsupportedError: the later form, of another profile or version.
        """
        header: Header | None = None
        types: dict[int, int] = {}
        if data.startswith(_MAGIC):
            header = _header(data, base)
            parsed, types = _read_typed(Reader(data[_HEADER_SIZE:], _WHAT, base + _HEADER_SIZE))
        else:
            parsed = Reader(data, _WHAT, base).fields("field", MAX_FIELDS)
        fields = dict(parsed)
        if len(fields) != len(parsed):
            kinds = [kind for kind, _ in parsed]
            twice = next(kind for kind in kinds if kinds.count(kind) > 1)
            raise FormatError(f"{_WHAT}: field {twice} appears twice", code="duplicate_key")
        fwid, counts = fields.get(Field.FWID, bytes(FWID_SIZE)), fields.get(Field.MSRSCNT, b"")
        if len(fwid) != FWID_SIZE:
            raise FormatError(f"{_WHAT}.FWID: want {FWID_SIZE} bytes, got {len(fwid)}", code="bad_length")
        # One count of 4 bytes for each measurement of a GPU; a switch has more measurements than counts.
        if len(counts) % 4 or len(counts) > 4 * measurements:
            raise FormatError(
                f"{_WHAT}.MSRSCNT: want at most {measurements} counts of 4 bytes, got {len(counts)} bytes",
                code="bad_length",
            )
        return cls(MappingProxyType(fields), header, MappingProxyType(types))

    def encode(self) -> bytes:
        """Write the fields as they were read."""
        out = [] if self.header is None else [self.header.encode()]
        for kind, value in self.fields.items():
            value_type = b"" if self.header is None else self.value_types[kind].to_bytes(2, "little")
            out.append(kind.to_bytes(2, "little") + value_type + len(value).to_bytes(2, "little") + value)
        return b"".join(out)

    def get(self, field: Field) -> bytes | None:
        """The bytes of one field, or None."""
        return self.fields.get(field)

    def text(self, field: Field) -> str | None:
        """A field of printable text, padded with zeros; None if it is absent or empty.

        Raises:
            FormatError: other bytes.
        """
        value = self.get(field)
        if value is None or not value.strip(b"\0"):
            return None
        if not _TEXT.fullmatch(value):
            raise FormatError(f"{_WHAT}.{field.name}: is no text", code="bad_encoding")
        return value.rstrip(b"\0").decode()

    @property
    def vbios_version(self) -> str | None:
        """Such as ``96.00.A5.00.01``: from text, or from 8 bytes of which the first four are reversed."""
        value = self.get(Field.VBIOS_VERSION)
        if value is not None and len(value) == 8 and not any(value[5:]):
            return ".".join(f"{part:02X}" for part in (*value[3::-1], value[4]))
        return self.text(Field.VBIOS_VERSION)

    @property
    def feature(self) -> Feature | None:
        """How the device is passed through; None if the driver does not report it.

        Raises:
            UnsupportedError: a number not known here.
        """
        value = self.get(Field.FEATURE_FLAG)
        if value is None:
            return None
        number = int.from_bytes(value, "little")
        if len(value) != 2 or number not in set(Feature):
            raise UnsupportedError(
                f"{_WHAT}.FEATURE_FLAG: want 0..2 in 2 bytes, got {value[:8].hex()}", code="bad_version"
            )
        return Feature(number)

    @property
    def protected_pcie(self) -> bool | None:
        """Whether links run in the clear under protected PCIe; None if it is not reported."""
        value = self.get(Field.PROTECTED_PCIE_STATUS)
        return None if value is None else _ENABLED.get(value)

    @property
    def pdis(self) -> tuple[bytes, ...]:
        """The 8-byte device ids that a GPU reports of its switches, or a switch of itself."""
        value = self.get(Field.SWITCH_PDI) or b""
        if len(value) % PDI_SIZE:
            raise FormatError(
                f"{_WHAT}.SWITCH_PDI: want a multiple of {PDI_SIZE} bytes, got {len(value)}",
                code="bad_length",
            )
        return tuple(value[at : at + PDI_SIZE] for at in range(0, len(value), PDI_SIZE))


def _header(data: bytes, base: int) -> Header:
    header = Header.parse(data[:_HEADER_SIZE], base=base)
    if header.profile or header.major > MAX_MAJOR:
        raise UnsupportedError(
            f"{_WHAT}: want profile 0 of version 0..{MAX_MAJOR}, got profile {header.profile} of version "
            f"{header.major}.{header.minor}",
            code="bad_version",
        )
    return header


def _read_typed(reader: Reader) -> tuple[list[tuple[int, bytes]], dict[int, int]]:
    """Fields that consist of a type, the type of the value, a size and the value."""
    fields: list[tuple[int, bytes]] = []
    types: dict[int, int] = {}
    while reader.left:
        if len(fields) == MAX_FIELDS:
            raise FormatError(f"{_WHAT}: more than {MAX_FIELDS} fields", code="too_large")
        kind = reader.u16("type")
        types[kind] = reader.u16("value type")
        fields.append((kind, reader.take(reader.u16("size"), "field")))
    return fields, types
