"""Protocol buffers, strictly: the fields of one message, in order. No field is skipped silently.

Spec: Protocol Buffers documentation, "Encoding": varints are minimal and of at most 64 bits, groups
are refused.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import FormatError

MAX_FIELDS: Final = 4096
_VARINT: Final = 0
_BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}


class Field(NamedTuple):
    """One field: its number, and a number or bytes."""

    number: int
    value: int | bytes

    def octets(self, what: str) -> bytes:
        """Its bytes.

        Raises:
            FormatError: it is a number.
        """
        if not isinstance(self.value, bytes):
            raise FormatError(f"{what}: field {self.number} is a number, want bytes", code="bad_type")
        return self.value

    def integer(self, limit: int, what: str) -> int:
        """Its number, 0..limit.

        Raises:
            FormatError: it is bytes, or larger.
        """
        if isinstance(self.value, bytes) or self.value > limit:
            raise FormatError(
                f"{what}: field {self.number}: want a number of 0..{limit}", code="bad_encoding"
            )
        return self.value


def fields(data: bytes, what: str, *, most: int = MAX_FIELDS) -> list[Field]:
    """Read the fields of one message, at most ``most``.

    Raises:
        FormatError: cut short, a group, or a varint that is not minimal.
    """
    position, end = 0, len(data)
    parsed: list[Field] = []
    while position < end:
        if len(parsed) == most:
            raise FormatError(f"{what}: more than {most} fields", code="too_large")
        at = position
        key, position = _varint(data, position, what)
        number, kind = key >> 3, key & 7
        if not 1 <= number < 1 << 29 or kind not in (_VARINT, _BYTES, *_FIXED):
            raise FormatError(f"{what} at {at:#x}: is no field of a kind that is used", code="bad_encoding")
        if kind == _VARINT:
            value, position = _varint(data, position, what)
            parsed.append(Field(number, value))
            continue
        size = _FIXED.get(kind)
        if size is None:
            size, position = _varint(data, position, what)
        if size > end - position:
            raise FormatError(
                f"{what} at {position:#x}: needs {size} bytes, {end - position} left", code="truncated"
            )
        raw = data[position : position + size]
        position += size
        parsed.append(Field(number, raw if kind == _BYTES else int.from_bytes(raw, "little")))
    return parsed


def _varint(data: bytes, position: int, what: str) -> tuple[int, int]:
    value, shift = 0, 0
    for byte in data[position : position + 10]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        if position + 10 > len(data):
            raise FormatError(f"{what} at {position:#x}: a number is cut short", code="truncated")
        byte = 0
    if value >= 1 << 64 or (byte == 0 and shift > 7):
        raise FormatError(
            f"{what} at {position:#x}: a number is not minimal, or too large", code="bad_encoding"
        )
    return value, position + shift // 7
