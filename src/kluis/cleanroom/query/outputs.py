"""Compute the published rows exactly: outputs, HAVING, ORDER BY and LIMIT, from published numbers only."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Hashable
from fractions import Fraction

from kluis.cleanroom.data.values import value_of
from kluis.cleanroom.query.publishing import Group, Release
from kluis.cleanroom.query.tree import (
    Arithmetic,
    Bins,
    Column,
    Count,
    Groups,
    Having,
    Key,
    KeyOf,
    Number,
    Output,
    Published,
)

Shown = str | int | float | bool | datetime.date | datetime.datetime | None
_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq,
    ">=": operator.ge, ">": operator.gt, "<>": operator.ne,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip


def rows(groups: Groups, release: Release) -> list[tuple[Shown, ...]]:
    """Compute the rows of a query from its published groups.

    Returns:
        The values of each output, in the order of ORDER BY, then of the keys; NULL comes last.
    """
    groups_shown = [each for each in release.groups if groups.having is None or _truth(groups.having, each)]
    groups_shown.sort(
        key=lambda group: [(of is None, 0 if of is None else of) for of in _keys(groups, group)]
    )
    shown_rows = [tuple(_value(each, groups, group) for each in groups.outputs) for group in groups_shown]
    for place, descends in reversed(groups.order):
        known = [row for row in shown_rows if row[place] is not None]
        known.sort(key=operator.itemgetter(place), reverse=descends)
        shown_rows = known + [row for row in shown_rows if row[place] is None]
    return shown_rows[: groups.limit]


def kinds(groups: Groups) -> tuple[str, ...]:
    """The type of each output: a column's type, ``integer`` or ``number``."""
    return tuple(_kind(each, groups) for each in groups.outputs)


def _keys(groups: Groups, group: Group) -> list[Shown]:
    return [_key_value(each, of) for each, of in zip(groups.keys, group.key, strict=True)]


def _value(output: Output, groups: Groups, group: Group) -> Shown:
    if isinstance(output, KeyOf):
        return _key_value(groups.keys[output.number], group.key[output.number])
    exact = _exact(output, group)
    if exact is None:
        return None
    try:
        return int(exact) if _kind(output, groups) == "integer" else float(exact)
    except OverflowError:
        return None


def _exact(output: Output, group: Group) -> Fraction | None:
    match output:
        case Number(value):
            return value
        case Published(measure):
            return group.measured[measure]
        case Arithmetic(sign, left, right):
            a, b = _exact(left, group), _exact(right, group)
            if a is None or b is None or (sign == "/" and not b):
                return None
            return Fraction(round(a, int(b))) if sign == "round" else _ARITHMETIC[sign](a, b)
        case KeyOf():
            return None


def _kind(output: Output, groups: Groups) -> str:
    match output:
        case KeyOf(number):
            key = groups.keys[number]
            if isinstance(key, Column):
                return key.type
            return "integer" if any(isinstance(each, int) for each in key.labels) else "string"
        case Number(value):
            return "integer" if value.denominator == 1 else "number"
        case Published(measure):
            return "integer" if isinstance(measure, Count) else measure.column.type
        case Arithmetic(sign, left, right):
            both = {_kind(left, groups), _kind(right, groups)}
            return "integer" if sign not in ("/", "round") and both == {"integer"} else "number"


def _key_value(key: Key, value: Hashable) -> Shown:
    if value is None:
        return None
    if isinstance(key, Bins):
        return key.labels[int(value)]  # type: ignore[call-overload]  # the number of a label
    if key.scale is None:
        return value  # type: ignore[return-value]  # of a kind that is shown as it is
    shown = value_of(int(value), key.scale)  # type: ignore[call-overload]  # a whole number, of the scale
    return bool(shown) if key.type == "boolean" else int(shown) if key.type == "integer" else float(shown)


def _truth(having: Having | Output, group: Group) -> bool | None:
    """Whether a group meets HAVING, in SQL's logic of three values."""
    if not isinstance(having, Having):
        return None
    if having.operator in ("and", "or", "not"):
        truths = [_truth(each, group) for each in having.of]
        if having.operator == "not":
            return None if truths[0] is None else not truths[0]
        decides = having.operator == "or"
        return decides if decides in truths else None if None in truths else not decides
    left, right = (_exact(each, group) for each in having.of if not isinstance(each, Having))
    return None if left is None or right is None else _COMPARE[having.operator](left, right)
