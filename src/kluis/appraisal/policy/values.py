"""Values of claims, as appraisal compares them, shows them to people, and writes them as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar

from kluis.formats.encoding.brief import short
from kluis.hashes import Digest

V = TypeVar("V")
Value: TypeAlias = (
    bool | int | str | bytes | tuple[int, ...] | Mapping[str, int] | Mapping[str, Digest] | None
)
ABSENT: Final = "none"
MOST_SHOWN: Final = 12
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_NUMBER: Final = re.compile(r"([0-9]+)")


class Product(dict[str, int]):
    """The parts of a product with their security versions, from evidence.

    Args:
        name: of the product.
        parts: security versions by part.
    """

    def __init__(self, name: str, parts: Mapping[str, int]) -> None:
        super().__init__(parts)
        self.name = name


def format_value(value: Value) -> str:
    """A claim, formatted for people."""
    match value:
        case None | b"" | "":
            return ABSENT
        case bool():
            return "yes" if value else "no"
        case bytes():
            return short(value)
        case tuple():
            return ".".join(map(str, value))
        case Product():
            return f"{value.name} {parts(value)}"
        case Mapping():
            return (
                ", ".join(
                    f"{name} {short(each.value) if isinstance(each, Digest) else each}"
                    for name, each in sort_naturally(value)
                )
                or ABSENT
            )
        case _:
            return str(value)


def sort_naturally(values: Mapping[str, V]) -> list[tuple[str, V]]:
    """Values by name in natural order: pcr2 before pcr10."""
    return sorted(values.items(), key=lambda item: _natural_key(item[0]))


def _natural_key(name: str) -> list[str | int]:
    return [int(part) if index % 2 else part for index, part in enumerate(_NUMBER.split(name))]


def either(values: Iterable[str | int]) -> str:
    """Values as alternatives, sorted; of a long list, the first ones and the number of others."""
    texts = sorted(map(str, values))
    more = len(texts) - MOST_SHOWN
    return " or ".join([*texts[:MOST_SHOWN], f"one of {more} more"] if more > 1 else texts)


def quote(text: str) -> str:
    """Text in TOML's form."""
    # JSON's escapes are all valid in TOML, and text outside ASCII is unescaped in both. DEL is allowed in
    # JSON, but not in TOML.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def format_list(values: Iterable[str | int]) -> str:
    """A TOML list, sorted."""
    texts = (str(v) if isinstance(v, int) else quote(str(v)) for v in values)
    return f"[{', '.join(sorted(texts))}]"


def table(values: Mapping[str, V], write: Callable[[V], str]) -> str:
    """An inline TOML table, sorted."""
    members = (f"{_key(name)} = {write(each)}" for name, each in sort_naturally(values))
    return "{ " + ", ".join(members) + " }"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else quote(name)


def parts(versions: Mapping[str, int]) -> str:
    """Parts of a product with their security versions, sorted."""
    return ", ".join(f"{name} {svn}" for name, svn in sorted(versions.items()))
