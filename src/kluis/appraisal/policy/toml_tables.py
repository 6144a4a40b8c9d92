"""Read TOML strictly, key by key: errors name the key that is missing, unknown or of another kind."""

from __future__ import annotations

import datetime
import difflib
import enum
from collections.abc import Collection
from typing import Any, Final, TypeVar

from kluis.errors import FormatError
from kluis.formats.encoding import toml

E_co = TypeVar("E_co", bound=enum.StrEnum)
MAX_DEPTH: Final = 8
MAX_VALUES: Final = 4096
MISSPELT: Final = 0.8  # how alike two names are, 0..1; no two keys of one table are more
_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "an integer",
    str: "text",
    list: "a list",
    dict: "a table",
    float: "a float",
    datetime.date: "a date without quotes",
}
MOST_SHOWN: Final = 32  # characters of the value
PLAIN_HEX: Final = "only hex digits: no 0x, no colons, no algorithm name"


def parse(data: bytes, what: str, *, most: int, hint: str) -> Table:
    """Parse a document.

    Args:
        data: TOML in UTF-8.
        what: name for messages.
        most: bytes.
        hint: what to do if a key is missing.

    Raises:
        FormatError: not TOML, a repeated key, too large or too deep.
    """
    try:
        value = toml.loads(data, what, max_size=most)
    except FormatError as error:
        fix = f"{error.hint}; {hint}" if error.hint else None
        raise FormatError(error.message, hint=fix, code=error.code) from None
    _check(value, what)
    return Table(value, what, hint)


def _check(value: Any, what: str) -> None:
    left, depth = [value], 0
    while left:
        if depth > MAX_DEPTH:
            raise FormatError(f"{what}: nested more than {MAX_DEPTH} deep", code="too_deep")
        below = [each for one in left for each in (one.values() if isinstance(one, dict) else one)]
        if len(below) > MAX_VALUES:
            raise FormatError(f"{what}: more than {MAX_VALUES} values", code="too_large")
        left = [each for each in below if isinstance(each, dict | list)]
        depth += 1


class Table:
    """A table read key by key; keys left over at the end are refused."""

    def __init__(self, value: dict[str, Any], name: str, hint: str) -> None:
        self._left = dict(value)
        self._words: dict[str, list[str]] = {}
        self._hint = hint
        self.name = name

    def __contains__(self, key: str) -> bool:
        return key in self._left

    @property
    def keys(self) -> list[str]:
        """The keys not yet read."""
        return sorted(self._left)

    def take(self, key: str, kind: type[Any]) -> Any:
        """The value of a key, which must be there and of this kind."""
        if key not in self._left:
            near = difflib.get_close_matches(key, self._left, 1, MISSPELT)
            hint = f"it has {near[0]}: did you mean {key}" if near else self._hint
            raise FormatError(f"{self.name}.{key}: is not stated", hint=hint, code="policy_incomplete")
        value = self._left.pop(key)
        if type(value) is not kind:
            words = self._words.get(key, [])
            got = _KINDS.get(type(value), "another kind")
            if words and isinstance(value, str):
                got = ascii(value[:MOST_SHOWN])
            raise self._refusal(key, " or ".join([_KINDS[kind], *(f'"{word}"' for word in words)]), got)
        return value

    def _refusal(self, key: str, want: str, got: str, code: str = "bad_type") -> FormatError:
        return FormatError(f"{self.name}.{key}: want {want}, got {got}", hint=self._hint, code=code)

    def any(self, key: str, word: str = "any") -> bool:
        """Read ``"any"``, or another word, if the value is that word."""
        if self._left.get(key) != word:
            self._words.setdefault(key, []).append(word)
            return False
        del self._left[key]
        return True

    def table(self, key: str) -> Table:
        """Read a nested table."""
        return Table(self.take(key, dict), f"{self.name}.{key}", self._hint)

    def tables(self, key: str) -> tuple[Table, ...]:
        """A list of tables, at least one."""
        values = self.take(key, list)
        if not values or not all(isinstance(value, dict) for value in values):
            raise FormatError(f"{self.name}.{key}: want tables, at least one", code="bad_type")
        return tuple(Table(each, f"{self.name}.{key}[{n}]", self._hint) for n, each in enumerate(values))

    def number(self, key: str, most: int) -> int:
        """A whole number, 0..``most``."""
        value: int = self.take(key, int)
        if not 0 <= value <= most:
            raise self._refusal(key, f"0..{most}", str(value), "bad_encoding")
        return value

    def texts(self, key: str) -> frozenset[str]:
        """A list of text."""
        values = self.take(key, list)
        if not all(isinstance(value, str) for value in values):
            raise FormatError(f"{self.name}.{key}: want a list of text", code="bad_type")
        return frozenset(values)

    def numbers(self, key: str, most: int) -> frozenset[int]:
        """A list of whole numbers, each 0..``most``."""
        values = self.take(key, list)
        if not all(type(value) is int and 0 <= value <= most for value in values):
            raise FormatError(f"{self.name}.{key}: want a list of integers 0..{most}", code="bad_type")
        return frozenset(values)

    def names(self, key: str, kind: type[E_co]) -> frozenset[E_co]:
        """Read a list of names of an enum's members."""
        return frozenset(kind(value) for value in self.known_texts(key, list(kind)))

    def known_texts(self, key: str, names: Collection[str]) -> frozenset[str]:
        """Read a list of these known names."""
        values = self.texts(key)
        if unknown := sorted(values - set(names)):
            raise self._refusal(key, f"some of {', '.join(names)}", ascii(unknown[0]))
        return values

    def hexes(self, key: str) -> frozenset[bytes]:
        """A list of byte strings in hex."""
        return frozenset(from_hex(value, f"{self.name}.{key}") for value in self.texts(key))

    def end(self) -> None:
        """Refuse keys not yet read."""
        if self._left:
            what = self.name.split(".")[0]
            name = f"{self.name}.{min(self._left)}"
            raise FormatError(f"{name}: is not a key of a {what}", hint=self._hint, code="bad_type")


def from_hex(text: str, what: str, *, want: str = "hex") -> bytes:
    """Read hex.

    Args:
        text: digits, in any case.
        what: name for messages.
        want: the accepted forms, for messages.

    Raises:
        FormatError: not hex.
    """
    try:
        return bytes.fromhex(text)
    except ValueError:
        got = ascii(text[:MOST_SHOWN])
        raise FormatError(f"{what}: want {want}, got {got}", hint=PLAIN_HEX, code="bad_encoding") from None
