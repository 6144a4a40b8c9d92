"""DER, strictly, for the few types in certificates and vendor extensions. Nothing here is verified.

Spec: ITU-T X.690, "Distinguished Encoding Rules": one-byte tags, definite minimal lengths,
minimal integers, booleans 0x00 or 0xff.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import FormatError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OID: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
SET: Final = 0x31
MAX_PAIRS: Final = 64


class Element(NamedTuple):
    """One element: its tag and its contents. Each reader raises FormatError for another tag, size or form."""

    tag: int
    content: bytes

    def octets(self, size: int, what: str) -> bytes:
        """Read an OCTET STRING of exactly ``size`` bytes."""
        self._expect(OCTET_STRING, what)
        if len(self.content) != size:
            raise FormatError(f"{what}: want {size} bytes, got {len(self.content)}", code="bad_length")
        return self.content

    def integer(self, limit: int, what: str, tag: int = INTEGER) -> int:
        """Read an INTEGER, or ENUMERATED, in 0..limit."""
        self._expect(tag, what)
        data = self.content
        if not data or (len(data) > 1 and data[0] == 0 and data[1] < 0x80):
            raise FormatError(f"{what}: integer is not minimal", code="bad_encoding")
        value = int.from_bytes(data, "big")
        if data[0] >= 0x80 or value > limit:
            raise FormatError(f"{what}: want 0..{limit}, got {data[:8].hex()}", code="bad_encoding")
        return value

    def boolean(self, what: str) -> bool:
        """Read a BOOLEAN."""
        self._expect(BOOLEAN, what)
        if self.content not in (b"\x00", b"\xff"):
            raise FormatError(
                f"{what}: boolean must be 00 or ff, found {self.content[:8].hex()}", code="bad_encoding"
            )
        return self.content == b"\xff"

    def pairs(self, what: str) -> list[tuple[bytes, Element]]:
        """Read a SEQUENCE of SEQUENCEs of an object identifier and one value, at most 64.

        Returns:
            Each identifier, encoded as :func:`oid` does, and its value.
        """
        self._expect(SEQUENCE, what)
        data, position = self.content, 0
        parsed: list[tuple[bytes, Element]] = []
        limit = len(data)
        while position < limit:
            if len(parsed) == MAX_PAIRS:
                raise FormatError(f"{what}: more than {MAX_PAIRS} entries", code="too_large")
            start, end = within(data, position, limit, SEQUENCE, what)
            _, name_end = within(data, start, end, OID, what)
            value_tag, value_start, value_end = bounds(data, name_end, end, what)
            if value_end != end:
                raise FormatError(
                    f"{what} at {position:#x}: want a sequence of an identifier and one value",
                    code="bad_type",
                )
            parsed.append((data[start:name_end], Element(value_tag, data[value_start:value_end])))
            position = end
        return parsed

    def _expect(self, tag: int, what: str) -> None:
        if self.tag != tag:
            raise FormatError(f"{what}: want tag {tag:#04x}, got {self.tag:#04x}", code="bad_type")


def parse(data: bytes, what: str) -> Element:
    """Read exactly one element.

    Raises:
        FormatError: the encoding is not DER, or bytes follow it.
    """
    tag, start, end = bounds(data, 0, len(data), what)
    if end != len(data):
        raise FormatError(f"{what} at {end:#x}: {len(data) - end} bytes after the end", code="trailing_data")
    return Element(tag, data[start:end])


def element(tag: int, *contents: bytes) -> bytes:
    """Write one element; its contents are the parts, concatenated."""
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
    """Write a non-negative INTEGER, or ENUMERATED."""
    return element(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def boolean(value: bool) -> bytes:
    """Write a BOOLEAN."""
    return element(BOOLEAN, b"\xff" if value else b"\x00")


def bounds(data: bytes, position: int, limit: int, what: str) -> tuple[int, int, int]:
    """Return the tag of the element at ``position``, and the start and end of its contents.

    Args:
        data: contains the element.
        position: of its tag.
        limit: end of the enclosing element.
        what: for messages.

    Raises:
        FormatError: cut short, a long tag, or a length that is not minimal.
    """
    start = position + 2
    if start > limit:
        raise FormatError(f"{what} at {position:#x}: element is cut short", code="truncated")
    tag, size = data[position], data[position + 1]
    if tag & 0x1F == 0x1F:
        raise FormatError(f"{what} at {position:#x}: long tags are not used here", code="bad_encoding")
    if size >= 0x80:
        count = size & 0x7F
        raw = data[start : min(start + count, limit)]
        size, start = int.from_bytes(raw, "big"), start + count
        if not 1 <= count <= 4 or len(raw) != count or size < 0x80 or raw[0] == 0:
            raise FormatError(f"{what} at {position:#x}: length is not minimal", code="bad_encoding")
    if start + size > limit:
        raise FormatError(
            f"{what} at {position:#x}: needs {size} bytes, {limit - start} left", code="truncated"
        )
    return tag, start, start + size


def within(data: bytes, start: int, end: int, tag: int, what: str) -> tuple[int, int]:
    """Return the start and end of the contents of the element at ``start``, which must have tag ``tag``.

    Raises:
        FormatError: as for :func:`bounds`, or another tag.
    """
    begin = start + 2
    # The usual case, and the hottest lines of any verification: a short length, or one of 2 bytes.
    if begin <= end and data[start] == tag:
        size = data[start + 1]
        if size == 0x82 and begin + 2 <= end:
            size = data[begin] << 8 | data[begin + 1]
            begin += 2
            if 0x100 <= size <= end - begin:
                return begin, begin + size
        elif size < 0x80 and size <= end - begin:
            return begin, begin + size
    got, begin, stop = bounds(data, start, end, what)
    if got != tag:
        raise FormatError(f"{what} at {start:#x}: want tag {tag:#04x}, got {got:#04x}", code="bad_type")
    return begin, stop
