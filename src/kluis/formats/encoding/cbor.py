"""CBOR, strictly: each value has one encoding, so what is read is written back as the same bytes.

Supported are integers, byte strings, text, arrays, maps, ``false``, ``true`` and ``null``, and tags that the
caller names. Heads are minimal. Lengths are definite; only maps may be of indefinite length, if the caller
allows it. Keys are integers or text, and occur once. Floats, ``undefined`` and other simple values are
refused.

Spec: RFC 8949, "Core Deterministic Encoding Requirements", except for the order of keys, which is preserved.
"""

# Not cbor2: cbor2 follows long heads, bignums, dates and shared references, raises a dozen types of
# exception, and cannot locate an error. This reader takes some 12 us for a Nitro document, a thirtieth of one
# P-384 verification. cbor2 is the oracle in the tests.

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, Union

from kluis.errors import FormatError, UsageError

MAX_SIZE: Final = 64 * 1024
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 4096
MAX_INTEGER: Final = (1 << 64) - 1
_KEY_TYPES: Final = (0, 1, 3)
_INDEFINITE_MAP: Final = 0xBF
_BREAK: Final = 0xFF
_INTEGER_OF_16: Final = 0x19
_BYTES_OF_8: Final = 0x58

Key: TypeAlias = int | str
Value: TypeAlias = Union[bool, int, bytes, str, "list[Value]", "dict[Key, Value]", "Tagged", None]
Writable: TypeAlias = Union[
    bool, int, bytes, str, "Sequence[Writable]", "Mapping[Key, Writable]", "Tagged", None
]


class Tagged(NamedTuple):
    """A value under a tag, 0..2^64-1."""

    tag: int
    value: Value


class IndefiniteMap(dict[Key, Value]):
    """A map that had indefinite length, and is written with it."""

    __slots__ = ()


def loads(
    data: bytes,
    what: str,
    *,
    tags: Collection[int] = (),
    indefinite_maps: bool = False,
    max_size: int = MAX_SIZE,
    max_depth: int = MAX_DEPTH,
) -> Value:
    """Read one value; ``dumps`` writes the same bytes again.

    Args:
        data: exactly one value.
        what: what it claims to be, for messages.
        tags: those allowed.
        indefinite_maps: whether maps of indefinite length are read, as :class:`IndefiniteMap`.
        max_size: bytes.
        max_depth: of nested arrays, maps and tags.

    Raises:
        FormatError: cut short, too large or deep, more than 4096 items and entries, not of the strict form, a
            repeated key, or bytes after it.
    """
    if len(data) > max_size:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {max_size}", code="too_large")
    source = _Source(data, what, tags, indefinite_maps)
    try:
        value, end = source.item(0, max_depth)
    except IndexError:  # the head of a value is cut short
        raise source.short(len(data), 1) from None
    if end != len(data):
        raise FormatError(f"{what} at {end:#x}: {len(data) - end} bytes after the end", code="trailing_data")
    return value


class _Source:
    __slots__ = ("data", "indefinite_maps", "left", "size", "tags", "what")

    def __init__(self, data: bytes, what: str, tags: Collection[int], indefinite_maps: bool) -> None:
        self.data = data
        self.size = len(data)
        self.left = MAX_ITEMS
        self.what = what
        self.tags = tags
        self.indefinite_maps = indefinite_maps

    def item(self, at: int, depth: int) -> tuple[Value, int]:
        """Return the value at ``at`` and its end offset. Most values are strings, so they come first.

        Raises:
            IndexError: the head of a value is cut short.
        """
        data = self.data
        first = data[at]
        start = at + 1
        number = first & 0x1F
        if number > 23:
            if number == 24 and data[start] > 23:
                number = data[start]
                start += 1
            elif number == 25 and data[start]:
                number = data[start] << 8 | data[start + 1]
                start += 2
            elif number > 27:
                return self._odd(at, first, depth)
            else:
                number, start = self._long(at, number)
        major = first >> 5
        if major == 2:
            end = start + number
            if end > self.size:
                raise self.short(start, number)
            return data[start:end], end
        if major == 3:
            end = start + number
            if end > self.size:
                raise self.short(start, number)
            return self._text(start, end), end
        if major < 2:
            return (-1 - number if major else number), start
        if major == 7:
            return self._simple(at, first), start
        if depth == 0:
            raise self._deep(at)
        if major == 6:
            return self._read_tagged(at, number, start, depth - 1)
        if number > self.size - start:
            raise self.short(start, number)
        self._count(at, number)
        if major == 4:
            items = []
            for _ in range(number):
                value, start = self.item(start, depth - 1)
                items.append(value)
            return items, start
        entries: dict[Key, Value] = {}
        return entries, self._entries(entries, number, start, depth - 1)

    def _entries(self, entries: dict[Key, Value], number: int, at: int, depth: int) -> int:
        """Read that many entries, or those before a break; return the end offset."""
        data, size = self.data, self.size
        key: Any
        for _ in range(number):
            first = data[at]
            if first < 24 and data[at + 1] == _BYTES_OF_8:
                # The most common entries, PCRs, without a function call: a small key, and 24 to 255 bytes.
                length = data[at + 2]
                end = at + 3 + length
                if length > 23 and end <= size and first not in entries:
                    entries[first] = data[at + 3 : end]
                    at = end
                    continue
            if first == _INTEGER_OF_16 and data[at + 1]:
                key, start = data[at + 1] << 8 | data[at + 2], at + 3
            elif 0x60 <= first <= 0x77 and at + first - 0x5F <= size:
                start = at + first - 0x5F
                key = self._text(at + 1, start)
            elif first >> 5 in _KEY_TYPES:
                key, start = self.item(at, 0)
            elif first == _BREAK and type(entries) is IndefiniteMap:
                break
            else:
                raise FormatError(
                    f"{self.what} at {at:#x}: a key must be an integer or text", code="bad_type"
                )
            if key in entries:
                raise FormatError(
                    f"{self.what} at {at:#x}: key {key!a:.40} appears twice", code="duplicate_key"
                )
            entries[key], at = self.item(start, depth)
        return at

    def _long(self, at: int, size: int) -> tuple[int, int]:
        """The number in the 1, 2, 4 or 8 bytes after the head at ``at``, and the end offset."""
        width = 1 << size - 24
        end = at + 1 + width
        if end > self.size:
            raise self.short(at + 1, width)
        number = int.from_bytes(self.data[at + 1 : end], "big")
        if number < (24 if width == 1 else 1 << 4 * width):
            raise self._refusal(at, "its head is not minimal")
        return number, end

    def _text(self, start: int, end: int) -> str:
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise self._refusal(start, "text is not UTF-8") from None

    def _odd(self, at: int, first: int, depth: int) -> tuple[Value, int]:
        if first != _INDEFINITE_MAP or not self.indefinite_maps:
            raise self._refusal(at, f"head {first:#04x} is not used here")
        if depth == 0:
            raise self._deep(at)
        entries = IndefiniteMap()
        end = self._entries(entries, self.left, at + 1, depth - 1)
        self._count(end, len(entries) if self.data[end] == _BREAK else MAX_ITEMS + 1)
        return entries, end + 1

    def _count(self, at: int, number: int) -> None:
        """Count the item against the limit: many small values cost more than a few large ones."""
        self.left -= number
        if self.left < 0:
            raise FormatError(f"{self.what} at {at:#x}: more than {MAX_ITEMS} items", code="too_large")

    def _simple(self, at: int, first: int) -> bool | None:
        if first == 0xF6:
            return None
        if first not in (0xF4, 0xF5):
            raise FormatError(
                f"{self.what} at {at:#x}: want false, true or null, got head {first:#04x}", code="bad_type"
            )
        return first == 0xF5

    def _read_tagged(self, at: int, tag: int, start: int, depth: int) -> tuple[Tagged, int]:
        if tag not in self.tags:
            raise FormatError(f"{self.what} at {at:#x}: tag {tag} is not used here", code="bad_type")
        value, end = self.item(start, depth)
        return Tagged(tag, value), end

    def short(self, at: int, size: int) -> FormatError:
        return FormatError(
            f"{self.what} at {at:#x}: needs {size} bytes, {max(self.size - at, 0)} left", code="truncated"
        )

    def _deep(self, at: int) -> FormatError:
        return FormatError(f"{self.what} at {at:#x}: is nested too deep", code="too_deep")

    def _refusal(self, at: int, problem: str) -> FormatError:
        return FormatError(f"{self.what} at {at:#x}: {problem}", code="bad_encoding")


def dumps(value: Writable, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Write one value: minimal heads, definite lengths, keys in the order of the map.

    Raises:
        UsageError: a value that this form cannot represent, or more than ``max_depth`` values within each
            other.
    """
    out = bytearray()
    _write(value, out, max_depth)
    return bytes(out)


def head(major: int, number: int) -> bytes:
    """Encode the head of a value: its major type, 0..7, and its number, 0..2^64-1, in the fewest bytes."""
    if number < 24:
        return bytes((major << 5 | number,))
    size = 0 if number < 1 << 8 else 1 if number < 1 << 16 else 2 if number < 1 << 32 else 3
    return bytes((major << 5 | 24 + size,)) + number.to_bytes(1 << size, "big")


def _write(value: Writable, out: bytearray, depth: int) -> None:
    if depth < 0:
        raise UsageError(f"CBOR: want at most {MAX_DEPTH} values within each other, got more")
    # By comparisons, the commonest first: a pattern of a class takes four times as long.
    if isinstance(value, bytes):
        out += head(2, len(value)) + value
    elif value is None:
        out.append(0xF6)
    elif isinstance(value, bool):
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        if not -1 - MAX_INTEGER <= value <= MAX_INTEGER:
            raise UsageError("CBOR: want an integer of 64 bits, got a larger one")
        out += head(0, value) if value >= 0 else head(1, -1 - value)
    elif isinstance(value, str):
        try:
            text = value.encode()
        except UnicodeEncodeError:
            raise UsageError("CBOR: a text holds half a character") from None
        out += head(3, len(text)) + text
    elif isinstance(value, Tagged):
        out += head(6, value.tag)
        _write(value.value, out, depth - 1)
    elif isinstance(value, Mapping):
        _write_map(value, out, depth)
    elif isinstance(value, Sequence):
        out += head(4, len(value))
        for item in value:
            _write(item, out, depth - 1)
    else:
        raise UsageError(f"CBOR: cannot hold a {type(value).__name__}")


def _write_map(value: Mapping[Key, Writable], out: bytearray, depth: int) -> None:
    indefinite = isinstance(value, IndefiniteMap)
    out += bytes((_INDEFINITE_MAP,)) if indefinite else head(5, len(value))
    for key, item in value.items():
        if type(key) is not int and not isinstance(key, str):
            raise UsageError(f"CBOR: want a key that is an integer or text, got a {type(key).__name__}")
        _write(key, out, depth - 1)
        _write(item, out, depth - 1)
    if indefinite:
        out.append(_BREAK)
