"""Decide what is published from a query's cells. These rules are the only protection of a result.

1. Persons of one data set who give the same answers to all comparisons on its columns, including those on
   rows (``row_classes``), are a class. Each possible class (``possible``) contains at least k persons that
   every table has; otherwise nothing is published. The same applies to each class among the persons with the
   same keys of that data set; otherwise no group with those keys is published.
2. A group is shown if each combination of one class of each data set contains at least k of its persons. For
   a LEFT JOINed table, the persons that it does not have are a class as well.
3. If a combination of keys is not shown, the joined persons in no published group are at least k, and so are
   those of them with the same keys and class of a data set (``remainder``). Otherwise the smallest group is
   hidden as well.
4. A sum is coarse. In each cell, the outermost values (``writing.tail`` of them at either end) count as the
   mean of the others. The cell's sum is then rounded to whole spans, a span being the width of the range.

In rules 1 to 3 zero persons count as fewer than k. An owner has its own classes and keys. If zero were
enough, "hidden" would show that one person of a class is in another table, or that one person gives a unique
answer. For the same reason nothing depends on the persons that a JOIN leaves out.

Arithmetic, HAVING, ORDER BY and LIMIT see only what these rules publish. ``docs/concepts/what-leaves.md`` has
the attack behind each rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import prod

from kluis.cleanroom.data.values import value_of
from kluis.cleanroom.query.cells import Cell, Keys, Values, read_cell
from kluis.cleanroom.query.possible import (
    absent_class,
    class_reader,
    key_of,
    own_keys,
    pick,
    possible_classes,
    possible_rows,
)
from kluis.cleanroom.query.remainder import hide_the_rest, is_joined, size_of
from kluis.cleanroom.query.row_classes import RowClass, row_classes
from kluis.cleanroom.query.tree import Count, Extreme, Groups, Measure, Persons
from kluis.frozen import frozen


@frozen
class Group:
    """A published group: its keys in the engine's form, and its measures; None is NULL."""

    key: Keys
    measured: Mapping[Measure, Fraction | None]


@frozen
class Release:
    """The published groups.

    Attributes:
        groups: that the rules allow.
        hidden: number of groups in the data that are not published.
    """

    groups: tuple[Group, ...]
    hidden: int


def publish(groups: Groups, counted: Sequence[Sequence[object]], k: int) -> Release:
    """Apply the rules to a query's cells.

    Args:
        groups: the query.
        counted: the rows of ``writing.write_cells(groups, k)``.
        k: the fewest persons.
    """
    classes = row_classes(groups)
    cells = [
        read_cell(each, groups.persons, groups.keys, groups.atoms, groups.values, classes) for each in counted
    ]
    by_key = _by_key(cells)
    eligible = {key: of for key, of in by_key.items() if any(_counts(each, groups.persons) for each in of)}
    publishable = _publishable(groups, classes, cells, eligible, k)
    published = tuple(
        Group(key, {each: _measure(each, groups.persons, of) for each in groups.measures})
        for key, of in publishable.items()
    )
    return Release(published, len(by_key) - len(publishable))


def _counts(cell: Cell, persons: Persons) -> bool:
    """Whether the query counts these persons."""
    return is_joined(cell, persons) and cell.meets(persons.where) is True


def _publishable(
    groups: Groups, classes: tuple[RowClass, ...], cells: list[Cell], cells_of: dict[Keys, list[Cell]], k: int
) -> dict[Keys, list[Cell]]:
    """The published groups, and their cells."""
    sources = range(len(groups.persons.sources))
    without_keys = replace(groups, keys=())
    for number in sources:  # rule 1, without keys
        possible = possible_classes(without_keys, classes, cells, number, k)
        if _alone(without_keys, classes, cells, number, possible, k):
            return {}
    own = [own_keys(groups, number) for number in sources]
    classes_by_source = [possible_classes(groups, classes, cells, number, k) for number in sources]
    alone = [_alone(groups, classes, cells, number, classes_by_source[number], k) for number in sources]
    split = [_split(groups, classes, number, classes_by_source[number]) for number in sources]
    read = [class_reader(groups, classes, number) for number in sources]
    kept = {
        key: of
        for key, of in cells_of.items()
        if not any(pick(key, own[number]) in alone[number] for number in sources)  # rule 1
        and _split_well(
            groups.persons, read, of, [split[n].get(pick(key, own[n]), set()) for n in sources], k
        )  # rule 2
    }
    hide_the_rest(groups, classes, cells, kept, split, k)  # rule 3
    return kept


def _alone(
    groups: Groups,
    classes: tuple[RowClass, ...],
    cells: list[Cell],
    number: int,
    possible: Mapping[Keys, set[Keys] | None],
    k: int,
) -> set[Keys]:
    """Rule 1: the keys of a source in which a class contains fewer than k persons that every table has."""
    places, read = own_keys(groups, number), class_reader(groups, classes, number)
    kept: Counter[tuple[Keys, Keys]] = Counter()
    for cell in cells:
        # Whether they have a row of this source itself is part of their class.
        if cell.owned[number] and all(there for n, there in enumerate(cell.present) if n != number):
            kept[pick(cell.key, places), read(cell)] += cell.persons
    exposed = {key for key, of in possible.items() if of is None or any(kept[key, each] < k for each in of)}
    mine = [each for each in classes if each.source == number]
    for place, of in enumerate(mine, start=1):
        for met in possible_rows(of):
            rows: Counter[Keys] = Counter()
            for (key, each), count in kept.items():
                # mypy: the element after the answers is a whole number for each class of rows.
                rows[key] += count if int(each[place]) >> met & 1 else 0  # type: ignore[call-overload]
            exposed |= {key for key in possible if rows[key] < k}
    return exposed


def _by_key(cells: list[Cell]) -> dict[Keys, list[Cell]]:
    by_key: dict[Keys, list[Cell]] = {}
    for cell in cells:
        by_key.setdefault(cell.key, []).append(cell)
    return by_key


def _split(
    groups: Groups, classes: tuple[RowClass, ...], number: int, possible: Mapping[Keys, set[Keys] | None]
) -> dict[Keys, set[Keys]]:
    """The classes of a source that a group can contain, by the keys of that source."""
    inner = number in groups.persons.inner
    halves = {
        key: {each for each in of or () if each[0] is True or not inner} for key, of in possible.items()
    }
    if not inner:
        key = tuple(key_of(groups.keys[place], None) for place in own_keys(groups, number))
        halves.setdefault(key, set()).add(absent_class(groups, classes, number))
    return {key: of for key, of in halves.items() if of or possible.get(key, of) is None}


def _split_well(
    persons: Persons,
    read: Sequence[Callable[[Cell], Keys]],
    cells: list[Cell],
    wanted: Sequence[set[Keys]],
    k: int,
) -> bool:
    """Rule 2: each combination of the classes that a group can contain has at least k persons."""
    if size_of(cells, persons) < k * prod(map(len, wanted)):  # which also bounds the product below
        return False
    counts: Counter[tuple[Keys, ...]] = Counter()
    for cell in cells:
        if is_joined(cell, persons):
            counts[tuple(each(cell) for each in read)] += cell.persons
    return all(counts[each] >= k for each in product(*wanted))


def _measure(measure: Measure, persons: Persons, cells: list[Cell]) -> Fraction | None:
    of = [each for each in cells if _counts(each, persons) and each.meets(measure.where) is True]
    if isinstance(measure, Count):
        return Fraction(sum(each.persons for each in of))
    scale = measure.column.scale
    if not of or scale is None:
        return None
    values = [each.values[measure.column] for each in of]
    if isinstance(measure, Extreme):
        if measure.kind == "max":
            return value_of(max(each.largest[0] for each in values), scale)
        return value_of(min(each.smallest[0] for each in values), scale)
    # Rule 4. Each cell is rounded: then sums over cells that are combined in several ways reveal nothing
    # more.
    spans = sum(round(_total(each.values[measure.column], each.persons) / scale.most) for each in of)
    return scale.low * sum(each.persons for each in of) + scale.step * scale.most * spans


def _total(values: Values, persons: int) -> Fraction:
    """Rule 4: a cell's sum in steps, as if its outermost values were the mean of the others."""
    left_out = [*values.largest, *values.smallest]
    return Fraction(persons * (values.total - sum(left_out)), persons - len(left_out))
