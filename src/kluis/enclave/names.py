"""Limits on an interface's names and sizes, the same for writers and readers.

The reader of an interface did not generate it, and creates classes and fields with its names. So a name is an
identifier and nothing else, and no part of an interface is ever evaluated.
"""

from __future__ import annotations

import keyword
from collections.abc import Sized
from typing import Final

MAX_NAME: Final = 128
MAX_ITEMS: Final = 1024
"""For each list: calls, parameters, classes, fields, members, values and alternatives."""
LARGEST_MESSAGE: Final = 1 << 32
"""Bytes in one MessagePack string."""
LARGEST_TABLE: Final = 1 << 40
"""Bytes."""
MAX_NODES: Final = 1 << 15
"""Types in one interface, including nested ones, and the fields and values that they list."""
MAX_DEPTH: Final = 100
"""Levels of types within types, through classes, too. Decoders recurse, and how far Python lets them differs
between its versions."""


def name_problem(name: object) -> str | None:
    """Why a name of a call, parameter, field or member is invalid; None if it is valid.

    A name is an identifier of at most 128 characters, none above U+FFFF, in Python's normal form (NFKC). It
    is not a keyword, and does not begin with two underscores, which Python reserves.
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
    """Why a class name is invalid: such names joined by dots, such as ``Outer.Inner``; None if it is
    valid.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME:
        return name_problem(name)
    return next((problem for part in name.split(".") if (problem := name_problem(part))), None)


def count_problem(items: Sized, what: str) -> str | None:
    """The problem of an interface list with too many ``what``; None if it is within the limit."""
    return f"want at most {MAX_ITEMS} {what}, got {len(items)}" if len(items) > MAX_ITEMS else None


def _normal(name: str) -> bool:
    import unicodedata  # an enclave with ASCII names does not need it

    return unicodedata.is_normalized("NFKC", name)
