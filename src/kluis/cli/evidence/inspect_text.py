"""What was recognised, as lines for people and as values for ``--json``.

Bytes are shown as hex, times in UTC, and nothing that could steer a terminal.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from kluis.errors import foreign
from kluis.evidence.sniff import Found
from kluis.formats import x509
from kluis.views.fields import Fields, fields, key_of, plain

_MOST_NAME: Final = 24
_MOST_ITEMS: Final = 64
_ZEROS: Final = re.compile(r"(?:00){8,}")


def value(found: Found) -> Fields:
    """What was recognised, for JSON: its fields stand beside what it is."""
    return {
        "kind": found.name,
        "size": found.size,
        "armor": [each.value for each in found.armor],
        "fields": json(fields(found.value)),
        "within": {label: value(each) for label, each in found.within},
    }


def lines(found: Found, label: str = "", indent: int = 0) -> Iterator[str]:
    """What was recognised, for people: one field a line, parts set in below."""
    pad = " " * indent
    rows = [("kind", found.name), ("size", f"{found.size} bytes")]
    if found.armor:
        rows.append(("arrived as", ", ".join(found.armor)))
    if label:
        yield f"{pad}{foreign(label, len(label))}:"
        indent, pad = indent + 2, pad + "  "
    # Names are others' words, too: of a token's claims, of a collection's parts.
    rows += [(foreign(name, len(name)), _shown(item)) for name, item in _flat(fields(found.value))]
    width = min(max(len(name) for name, _ in rows), _MOST_NAME)
    for name, text in rows:
        yield _row(name, text, pad, width)
    for part, each in found.within:
        yield ""
        yield from lines(each, part, indent)


def json(item: Any) -> Any:
    """A field as JSON has it: bytes as hex, times in UTC, structures as objects, at most 64 items of each."""
    match item:
        case bytes() | bytearray():
            return bytes(item).hex()
        case datetime():
            return item.strftime("%Y-%m-%dT%H:%M:%SZ")
        case enum.Enum():
            return item.name
        case bool() | int() | str() | None:
            return item
        case Mapping():
            return {
                str(getattr(key, "label", key)): json(each) for key, each in list(item.items())[:_MOST_ITEMS]
            }
        case list() | tuple() | frozenset():
            return [json(each) for each in list(item)[:_MOST_ITEMS]]
        case x509.PublicKey():
            return json(key_of(item))
        case _ if dataclasses.is_dataclass(item):
            return json(plain(item))
        case _:
            return str(item)


def _flat(shown: Fields, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in shown.items():
        read = json(item)
        if isinstance(read, dict):
            yield from _flat(read, f"{prefix}{name}.")
        elif isinstance(read, list) and any(isinstance(each, dict) for each in read):
            yield from _flat({f"{name}[{index}]": each for index, each in enumerate(read)}, prefix)
        else:
            yield prefix + name, read


def _shown(item: Any) -> str:
    match item:
        case bool():
            return "yes" if item else "no"
        case None | "":
            return "none"
        case list():
            return ", ".join(map(str, item)) or "none"
        case str() if _ZEROS.fullmatch(item):
            return f"zeros ({len(item) // 2} bytes)"
        case _:
            return str(item)


def _row(name: str, text: str, pad: str, width: int) -> str:
    """A name and what it says, on one line; where the terminal is narrower, ``render.folded`` folds it."""
    return f"{pad}{name:<{width}}  {foreign(text, len(text))}".rstrip()
