"""Is a claim the value that is recorded? Records are JSON: bytes are hex there, numbers often hex too."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kluis.hashes import Digest


def same(got: Any, want: Any) -> bool:
    """Whether a claim equals a record's value, in whatever notation.

    Args:
        got: a claim, or a part of one.
        want: JSON.
    """
    if want is None or got is None:
        return got is want or (got is None and _nothing(want)) or (want is None and _nothing(got))
    match got:
        case Digest():
            return same(got.value, want)
        case enum.Enum():
            return bool(want in {got.value, got.name})
        case bool():
            return got is want
        case int():
            return _number(want) == got
        case bytes():
            return isinstance(want, str) and got.hex() == want.lower().removeprefix("0x")
        case str():
            return isinstance(want, str) and got.lower() == want.lower()
        case datetime():
            return got == _time(want)
        case Mapping():
            return isinstance(want, Mapping) and _same_members(got, want)
        case frozenset():
            return isinstance(want, list) and len(got) == len(want) and _same_set(got, want)
        case Sequence():
            return _same_items(list(got), want)
        case _ if dataclasses.is_dataclass(got):
            return isinstance(want, Mapping) and _same_members(
                {field.name: getattr(got, field.name) for field in dataclasses.fields(got)}, want
            )
        case _:
            return bool(got == want)


def _same_members(got: Mapping[Any, Any], want: Mapping[str, Any]) -> bool:
    """Every recorded member is there; a member of ours that is not recorded must be absent or None."""
    ours = {str(key).replace("_", ""): value for key, value in got.items() if value is not None}
    theirs = {key.replace("_", ""): value for key, value in want.items() if value is not None}
    return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)


def _same_set(got: frozenset[Any], want: list[Any]) -> bool:
    return all(any(same(ours, theirs) for theirs in want) for ours in got)


def _same_items(got: list[Any], want: Any) -> bool:
    return isinstance(want, list) and len(got) == len(want) and all(map(same, got, want))


def _number(want: Any) -> int | None:
    if isinstance(want, bool) or not isinstance(want, int | str):
        return None
    try:
        return want if isinstance(want, int) else int(want, 0)
    except ValueError:
        return None


def _time(want: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(want) if isinstance(want, str) else None
    except ValueError:
        return None


def _nothing(value: Any) -> bool:
    """Whether a value is how another writes that there is none: zeros, or empty."""
    match value:
        case str():
            return not value.strip("0")
        case bytes():
            return not any(value)
        case Sequence() | Mapping():
            return not value
        case _:
            return False
