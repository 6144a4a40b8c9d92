"""What an interface may name, and how much it may hold: the same where one is made and where one is read.

The side that reads an interface did not make it, and makes classes and fields of its names. A name is
therefore an identifier and nothing else, and no part of an interface is ever evaluated.
"""

from __future__ import annotations

import keyword
from collections.abc import Sized
from typing import Final

MAX_NAME: Final = 128
MAX_ITEMS: Final = 1024
"""Of each list: calls, parameters, classes, fields, members, values and alternatives."""
LARGEST_MESSAGE: Final = 1 << 32
"""Bytes: what one string of MessagePack can hold."""
LARGEST_TABLE: Final = 1 << 40
"""Bytes."""
MAX_NODES: Final = 1 << 15
"""Types in one interface, those inside others included, and the fields and values that they list."""


def name_problem(name: object) -> str | None:
    """Say why something cannot be the name of a call, parameter, field or member; None if it can.

    A name is an identifier of at most 128 characters, none past U+FFFF, in the form that Python gives it
    (NFKC). It is not a keyword, and does not begin with two underscores: those are Python's own.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        return f"want a name of 1 to {MAX_NAME} characters, got {str(name)[:40]!a}"
    if max(name) > "\uffff":  # msgspec sorts keys as UTF-8 and RFC 8785 as UTF-16: they agree up to there
        return f"a name's characters end at U+FFFF, got {name[:40]!a}"
    if not name.isidentifier() or not (name.isascii() or _normal(name)):
        return f"want an identifier, got {name[:40]!a}"
    if keyword.iskeyword(name) or name.startswith("__"):
        return f"want a name that Python does not reserve, got {name[:40]!a}"
    return None


def class_problem(name: object) -> str | None:
    """Say why something cannot be the name of a class: such names joined by dots, as ``Outer.Inner``."""
    if not isinstance(name, str) or len(name) > MAX_NAME:
        return name_problem(name)
    return next((problem for part in name.split(".") if (problem := name_problem(part))), None)


def count_problem(items: Sized, what: str) -> str | None:
    """Say that a list of the interface holds too many ``what``; None if it does not."""
    return f"want at most {MAX_ITEMS} {what}, got {len(items)}" if len(items) > MAX_ITEMS else None


def _normal(name: str) -> bool:
    import unicodedata  # an enclave whose names are ASCII needs none of it

    return unicodedata.is_normalized("NFKC", name)
