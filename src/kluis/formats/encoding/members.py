"""Read a JSON object member by member: each is checked for type and bounds, and errors name it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.jcs import MAX_INTEGER, Json

_ZULU: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def instant(text: str) -> datetime:
    """Read ``2026-01-31T00:00:00Z``, and no other form, as an aware time.

    Raises:
        ValueError: another form, or not a valid date and time.
    """
    if not _ZULU.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def octets_of(numbers: list[Json], what: str) -> bytes:
    """Read bytes written as a list of numbers.

    Raises:
        FormatError: an item is not a number, or does not fit a byte.
    """
    # In Python, JSON's true is an int.
    octets = [each for each in numbers if type(each) is int and 0 <= each <= 255]
    if len(octets) != len(numbers):
        raise FormatError(f"{what}: want bytes as numbers", code="bad_type")
    return bytes(octets)


class Members:
    """Reads ``value``, which must be an object. Each failure is a FormatError that names the member.

    Args:
        value: from a JSON reader.
        what: what it claims to be, for messages.

    Raises:
        FormatError: it is not an object.
    """

    __slots__ = ("_value", "what")

    def __init__(self, value: Json, what: str) -> None:
        if not isinstance(value, dict):
            raise FormatError(f"{what}: want an object, got {_kind(value)}", code="bad_type")
        self._value = value
        self.what = what

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def __getitem__(self, name: str) -> Json:
        return self._get(name)

    def entries(self, *, most: int) -> dict[str, Json]:
        """All members of an object whose names are not fixed; at most ``most``."""
        if len(self._value) > most:
            raise FormatError(
                f"{self.what}: has {len(self._value)} members, must be at most {most}", code="too_large"
            )
        return dict(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def only(self, names: Iterable[str]) -> None:
        """Refuse members missing from ``names`` or beyond them."""
        want, got = sorted(names), sorted(self._value)
        if want != got:
            raise FormatError(f"{self.what}: want members {want}, got {got}", code="bad_type")

    def null(self, name: str) -> bool:
        """Whether a member is null."""
        return self._get(name) is None

    def version(self, *supported: int) -> int:
        """Read ``version``.

        Raises:
            UnsupportedError: not one of ``supported``.
        """
        value = self._get("version")
        if isinstance(value, bool) or value not in supported:
            raise UnsupportedError(
                f"{self.what}.version: want one of {list(supported)}, got {_describe(value)}",
                code="bad_version",
            )
        return int(value)

    def text(self, name: str, *, limit: int = 256 * 1024) -> str:
        """Read text of at most ``limit`` characters."""
        value = self._get(name)
        if not isinstance(value, str):
            raise FormatError(f"{self.what}.{name}: want text, got {_kind(value)}", code="bad_type")
        if len(value) > limit:
            raise FormatError(
                f"{self.what}.{name}: is {len(value)} long, must be at most {limit}", code="too_large"
            )
        return value

    def integer(self, name: str, *, least: int = 0, most: int = MAX_INTEGER) -> int:
        """Read an integer in ``least``..``most``."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise FormatError(f"{self.what}.{name}: want an integer, got {_kind(value)}", code="bad_type")
        if not least <= value <= most:
            raise FormatError(f"{self.what}.{name}: want {least}..{most}, got {value}", code="bad_encoding")
        return value

    def flag(self, name: str) -> bool:
        """Read true or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise FormatError(f"{self.what}.{name}: want true or false, got {_kind(value)}", code="bad_type")
        return value

    def hex(self, name: str, size: int | None = None, *, lower: bool = False) -> bytes:
        """Read hex in either case, or only in lower case; of ``size`` bytes if given."""
        text = self.text(name)
        try:
            data = bytes.fromhex(text)
        except ValueError:
            data = None
        # ``fromhex`` skips spaces, which the length check catches.
        if data is None or 2 * len(data) != len(text):
            raise FormatError(f"{self.what}.{name}: is not hex", code="bad_encoding")
        if lower and text != text.lower():
            raise FormatError(f"{self.what}.{name}: is not lower-case hex", code="bad_encoding")
        if size is not None and len(data) != size:
            raise FormatError(f"{self.what}.{name}: want {size} bytes, got {len(data)}", code="bad_length")
        return data

    def time(self, name: str) -> datetime:
        """Read ``2026-01-31T00:00:00Z``, and no other form, as an aware time."""
        text = self.text(name)
        try:
            return instant(text)
        except ValueError:
            pass
        raise FormatError(f"{self.what}.{name}: is not a time like 2026-01-31T00:00:00Z", code="bad_encoding")

    def array(self, name: str, *, most: int) -> list[Json]:
        """Read a list of at most ``most`` items."""
        value = self._get(name)
        if not isinstance(value, list):
            raise FormatError(f"{self.what}.{name}: want a list, got {_kind(value)}", code="bad_type")
        if len(value) > most:
            raise FormatError(
                f"{self.what}.{name}: has {len(value)} items, must be at most {most}", code="too_large"
            )
        return value

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """Read a list of text, at most ``most`` items."""
        values = []
        for item in self.array(name, most=most):
            if not isinstance(item, str):
                raise FormatError(f"{self.what}.{name}: want text, got {_kind(item)}", code="bad_type")
            values.append(item)
        return tuple(values)

    def objects(self, name: str, *, most: int) -> list[Members]:
        """Read a list of objects, at most ``most``."""
        return [Members(item, f"{self.what}.{name}") for item in self.array(name, most=most)]

    def object(self, name: str) -> Members:
        """Read an object."""
        return Members(self._get(name), f"{self.what}.{name}")

    def _get(self, name: str) -> Json:
        if name not in self._value:
            raise FormatError(f"{self.what}: member {name!a} is missing", code="bad_type")
        return self._value[name]


def _describe(value: Json) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _kind(value)


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
