"""Format recognised data as lines for people; :mod:`kluis.views.recognised` does it for ``--json``.

Bytes are shown as hex, times in UTC, and no control character reaches the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from kluis.errors import foreign
from kluis.evidence.sniff import Found
from kluis.views.fields import Fields, fields
from kluis.views.recognised import json

_MOST_NAME: Final = 24
_ZEROS: Final = re.compile(r"(?:00){8,}")


def lines(recognised: Found, label: str = "", indent: int = 0) -> Iterator[str]:
    """Recognised data, for people: one field per line, parts indented."""
    pad = " " * indent
    rows = [("kind", recognised.name), ("size", f"{recognised.size} bytes")]
    if recognised.armor:
        rows.append(("arrived as", ", ".join(recognised.armor)))
    if label:
        yield f"{pad}{foreign(label, len(label))}:"
        indent, pad = indent + 2, pad + "  "
    # Names come from outside, too: of a token's claims, of a collection's parts.
    rows += [(foreign(name, len(name)), _format_item(item)) for name, item in _flat(fields(recognised.value))]
    width = min(max(len(name) for name, _ in rows), _MOST_NAME)
    for name, text in rows:
        yield _row(name, text, pad, width)
    for part, each in recognised.within:
        yield ""
        yield from lines(each, part, indent)


def _flat(shown: Fields, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in shown.items():
        read = json(item)
        if isinstance(read, dict):
            yield from _flat(read, f"{prefix}{name}.")
        elif isinstance(read, list) and any(isinstance(each, dict) for each in read):
            yield from _flat({f"{name}[{index}]": each for index, each in enumerate(read)}, prefix)
        else:
            yield prefix + name, read


def _format_item(item: Any) -> str:
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
    """A name and its value, on one line; ``render.fold`` folds it if the terminal is narrower."""
    return f"{pad}{name:<{width}}  {foreign(text, len(text))}".rstrip()
