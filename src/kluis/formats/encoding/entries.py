"""Read a CBOR map entry by entry: each is checked for type and bounds, and errors name it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, TypeAlias, cast

from kluis.errors import FormatError
from kluis.formats.encoding.cbor import Key, Tagged, Value

Sizes: TypeAlias = range | tuple[int, ...]


class Entries:
    """Reads ``value``, which must be a map. Each failure is a FormatError that names the entry.

    Args:
        value: from the CBOR reader.
        what: what it claims to be, for messages.
        names: of numeric keys, for messages.

    Raises:
        FormatError: it is not a map.
    """

    __slots__ = ("_names", "_value", "what")

    def __init__(self, value: Value, what: str, names: Mapping[int, str] | None = None) -> None:
        if not isinstance(value, dict):
            raise FormatError(f"{what}: want a map, got {kind_of(value)}", code="bad_type")
        self._value = value
        self._names = names or {}
        self.what = what

    def __contains__(self, key: Key) -> bool:
        return key in self._value

    def __getitem__(self, key: Key) -> Value:
        return self._value[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._value)

    def only(self, required: Collection[Key], optional: Collection[Key] = ()) -> None:
        """Refuse a map that does not have all ``required`` keys, or has keys outside both sets."""
        for key in required:
            if key not in self._value:
                raise FormatError(f"{self.what}: {self._name(key)} is missing", code="bad_type")
        if len(self._value) > len(required):
            for key in self._value:
                if key not in required and key not in optional:
                    raise FormatError(f"{self.what}: key {key!a:.40} is not known here", code="bad_type")

    def octets(self, key: Key, sizes: Sizes) -> bytes:
        """Read a byte string of one of ``sizes``."""
        value = self._value.get(key)
        if type(value) is not bytes:
            raise self._type_error(key, "bytes", value)
        if len(value) not in sizes:
            raise FormatError(
                f"{self.what}.{self._name(key)}: is {len(value)} bytes, want {_format_sizes(sizes)}",
                code="bad_length",
            )
        return value

    def octets_or_none(self, key: Key, sizes: Sizes) -> bytes | None:
        """Read a byte string of one of ``sizes``; None if it is ``null`` or absent."""
        return None if self._value.get(key) is None else self.octets(key, sizes)

    def text(self, key: Key, *, limit: int) -> str:
        """Read text of 1 to ``limit`` characters."""
        value = self._value.get(key)
        if type(value) is not str:
            raise self._type_error(key, "text", value)
        if not 1 <= len(value) <= limit:
            raise FormatError(
                f"{self.what}.{self._name(key)}: is {len(value)} long, want 1 to {limit}", code="bad_length"
            )
        return value

    def text_or_none(self, key: Key, *, limit: int) -> str | None:
        """Read text of 1 to ``limit`` characters; None if it is absent."""
        return self.text(key, limit=limit) if key in self._value else None

    def integer(self, key: Key, *, least: int = 0, most: int) -> int:
        """Read an integer in ``least``..``most``."""
        value = self._value.get(key)
        if type(value) is not int:
            raise self._type_error(key, "an integer", value)
        if not least <= value <= most:
            raise FormatError(
                f"{self.what}.{self._name(key)}: want {least}..{most}, got {value}", code="bad_encoding"
            )
        return value

    def boolean(self, key: Key) -> bool:
        """Read ``true`` or ``false``."""
        value = self._value.get(key)
        if type(value) is not bool:
            raise self._type_error(key, "a boolean", value)
        return value

    def array(self, key: Key, *, least: int, most: int) -> list[Value]:
        """Read a list of ``least`` to ``most`` items."""
        value = self._value.get(key)
        if type(value) is not list:
            raise self._type_error(key, "a list", value)
        if not least <= len(value) <= most:
            raise FormatError(
                f"{self.what}.{self._name(key)}: has {len(value)} items, want {least} to {most}",
                code="bad_length",
            )
        return value

    def octets_array(self, key: Key, sizes: Sizes, *, least: int, most: int) -> tuple[bytes, ...]:
        """Read a list of ``least`` to ``most`` byte strings, each of one of ``sizes``."""
        items = self.array(key, least=least, most=most)
        for item in items:
            if type(item) is not bytes:
                raise self._type_error(key, "bytes", item)
            if len(item) not in sizes:
                raise FormatError(
                    f"{self.what}.{self._name(key)}: holds {len(item)} bytes, want {_format_sizes(sizes)}",
                    code="bad_length",
                )
        return tuple(cast("list[bytes]", items))

    def map(self, key: Key, *, least: int, most: int) -> dict[Key, Value]:
        """Read a map of ``least`` to ``most`` entries."""
        value = self._value.get(key)
        if not isinstance(value, dict):
            raise self._type_error(key, "a map", value)
        if not least <= len(value) <= most:
            raise FormatError(
                f"{self.what}.{self._name(key)}: has {len(value)} entries, want {least} to {most}",
                code="bad_length",
            )
        return value

    def _name(self, key: Key) -> str:
        return key if isinstance(key, str) else self._names.get(key, str(key))

    def _type_error(self, key: Key, want: str, value: Value) -> FormatError:
        if key not in self._value:
            return FormatError(f"{self.what}: {self._name(key)} is missing", code="bad_type")
        return FormatError(
            f"{self.what}.{self._name(key)}: want {want}, got {kind_of(value)}", code="bad_type"
        )


def kind_of(value: Value) -> str:
    """The kind of a value, for messages."""
    return _KINDS.get(type(value), "a map")


_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    bytes: "bytes",
    str: "text",
    list: "a list",
    Tagged: "a tag",
}


def _format_sizes(sizes: Sizes) -> str:
    if isinstance(sizes, range):
        return f"{sizes.start} to {sizes.stop - 1}"
    return " or ".join(map(str, sizes))
