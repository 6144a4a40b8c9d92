"""DER, the strict few types that vendor extensions use. Nothing here is verified.

Spec: ITU-T X.690, "Distinguished Encoding Rules": one-byte tags, definite minimal lengths,
minimal integers, booleans 0x00 or 0xff. Certificates and CRLs are read by ``cryptography``.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kluis.errors import FormatError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OID: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
MAX_ELEMENTS: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Element:
    """One tag and its contents."""

    tag: int
    content: bytes
    what: str

    def expect(self, tag: int) -> bytes:
        """Give the contents, if the tag is ``tag``.

        Raises:
            FormatError: it is another.
        """
        if self.tag != tag:
            raise FormatError(f"{self.what}: want tag {tag:#04x}, got {self.tag:#04x}", code="bad_type")
        return self.content

    def children(self) -> list[Element]:
        """Read a SEQUENCE into its elements, at most 64."""
        data, position = self.expect(SEQUENCE), 0
        found: list[Element] = []
        while position < len(data):
            if len(found) == MAX_ELEMENTS:
                raise FormatError(f"{self.what}: more than {MAX_ELEMENTS} elements", code="too_large")
            element, position = _element(data, position, self.what)
            found.append(element)
        return found

    def pair(self) -> tuple[str, Element]:
        """Read a SEQUENCE of an object identifier and one value."""
        children = self.children()
        if len(children) != 2:
            raise FormatError(f"{self.what}: want 2 elements, got {len(children)}", code="bad_length")
        return children[0].oid(), children[1]

    def oid(self) -> str:
        """Read an OBJECT IDENTIFIER as dotted numbers."""
        data = self.expect(OID)
        if not data or data[-1] & 0x80:
            raise FormatError(f"{self.what}: object identifier is cut short", code="bad_encoding")
        arcs, value, fresh = [], 0, True
        for byte in data:
            if fresh and byte == 0x80:
                raise FormatError(f"{self.what}: object identifier is not minimal", code="bad_encoding")
            value = value << 7 | byte & 0x7F
            fresh = not byte & 0x80
            if fresh:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))

    def octets(self, size: int) -> bytes:
        """Read an OCTET STRING of exactly ``size`` bytes."""
        data = self.expect(OCTET_STRING)
        if len(data) != size:
            raise FormatError(f"{self.what}: want {size} bytes, got {len(data)}", code="bad_length")
        return data

    def integer(self, limit: int, tag: int = INTEGER) -> int:
        """Read an INTEGER (or ENUMERATED) in 0..limit."""
        data = self.expect(tag)
        if not data or (len(data) > 1 and data[0] == 0 and not data[1] & 0x80):
            raise FormatError(f"{self.what}: integer is not minimal", code="bad_encoding")
        value = int.from_bytes(data, "big", signed=True)
        if not 0 <= value <= limit:
            raise FormatError(f"{self.what}: want 0..{limit}, got {value}", code="bad_encoding")
        return value

    def boolean(self) -> bool:
        """Read a BOOLEAN."""
        data = self.expect(BOOLEAN)
        if data not in (b"\x00", b"\xff"):
            raise FormatError(
                f"{self.what}: boolean must be 00 or ff, found {data.hex()}", code="bad_encoding"
            )
        return data == b"\xff"


def parse(data: bytes, what: str) -> Element:
    """Read exactly one element.

    Raises:
        FormatError: the encoding is not DER, or bytes follow it.
    """
    element, end = _element(data, 0, what)
    if end != len(data):
        raise FormatError(f"{what} at {end:#x}: {len(data) - end} bytes after the end", code="trailing_data")
    return element


def element(tag: int, *contents: bytes) -> bytes:
    """Write one element around the contents, joined."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def oid(dotted: str) -> bytes:
    """Write an OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray()
    for arc in (40 * first + second, *rest):
        chunk = [arc & 0x7F]
        while arc := arc >> 7:
            chunk.append(0x80 | arc & 0x7F)
        out += bytes(reversed(chunk))
    return element(OID, bytes(out))


def integer(value: int, tag: int = INTEGER) -> bytes:
    """Write a non-negative INTEGER (or ENUMERATED)."""
    return element(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def boolean(value: bool) -> bytes:
    """Write a BOOLEAN."""
    return element(BOOLEAN, b"\xff" if value else b"\x00")


def _element(data: bytes, position: int, what: str) -> tuple[Element, int]:
    if len(data) - position < 2:
        raise FormatError(f"{what} at {position:#x}: element is cut short", code="truncated")
    tag, size = data[position], data[position + 1]
    start = position + 2
    if tag & 0x1F == 0x1F:
        raise FormatError(f"{what} at {position:#x}: long tags are not used here", code="bad_encoding")
    if size & 0x80:
        count = size & 0x7F
        raw = data[start : start + count]
        size, start = int.from_bytes(raw, "big"), start + count
        if not 1 <= count <= 4 or len(raw) != count or size < 0x80 or raw[0] == 0:
            raise FormatError(f"{what} at {position:#x}: length is not minimal", code="bad_encoding")
    if start + size > len(data):
        raise FormatError(
            f"{what} at {position:#x}: needs {size} bytes, {len(data) - start} left", code="truncated"
        )
    return Element(tag, data[start : start + size], what), start + size
