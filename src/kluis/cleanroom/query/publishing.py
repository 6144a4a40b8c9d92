"""What leaves of the cells that a query counts. These rules, and nothing else, stand before a result.

1. Persons of one data set who give the same answers to all comparisons on its columns are a class, those on
   rows included (``row_classes``). Each class holds at least k persons that every table has; otherwise
   nothing leaves. So does each class among the persons with the same keys of that data set; otherwise no
   group with those keys leaves.
2. A group is shown if each combination of one class of each data set holds at least k of its persons. Of a
   table that is LEFT JOINed, the persons that it does not have are a class as well.
3. If a combination of the keys of each data set is not shown, the joined persons in no published group are
   at least k. Otherwise the smallest group is hidden as well.
4. A sum is coarse. In each cell, the outermost values (``writing.tail`` of them at either end) count as the
   mean of the others. The cell's sum is then rounded to whole spans, a span being the width of the range.

In rules 1 to 3 nobody counts as fewer than k, not as enough. An owner knows its own classes and keys. If
nobody were enough, "hidden" would show it that one person of a class is in another table. For the same
reason nothing depends on the persons that a JOIN leaves out.

Arithmetic, HAVING, ORDER BY and LIMIT see only what these rules let out. ``docs/concepts/what-leaves.md`` has
the attack behind each rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
from operator import itemgetter

from kluis.cleanroom.query.cells import Cell, Keys, Values, read_cell
from kluis.cleanroom.query.row_classes import RowClass, row_classes
from kluis.cleanroom.query.tree import (
    Bins,
    Comparison,
    Count,
    Extreme,
    Groups,
    Key,
    Measure,
    Missing,
    Persons,
    comparisons_of,
)
from kluis.cleanroom.values import shown


@dataclass(frozen=True)
class Group:
    """A group that leaves: its keys as the engine has them, and its measures; None is NULL."""

    key: Keys
    measured: Mapping[Measure, Fraction | None]


@dataclass(frozen=True)
class Release:
    """What leaves.

    Attributes:
        groups: those that the rules let out.
        hidden: how many groups the data has that do not leave.
    """

    groups: tuple[Group, ...]
    hidden: int


def publish(groups: Groups, counted: Sequence[Sequence[object]], k: int) -> Release:
    """Make of a query's cells what leaves.

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
    asked = {key: of for key, of in by_key.items() if any(_counts(each, groups.persons) for each in of)}
    kept = _kept(groups, classes, cells, asked, k)
    found = tuple(
        Group(key, {each: _measured(each, groups.persons, of, k) for each in groups.measures})
        for key, of in kept.items()
    )
    return Release(found, len(by_key) - len(kept))


def _joined(cell: Cell, persons: Persons) -> bool:
    return all(cell.present[number] for number in persons.inner)


def _counts(cell: Cell, persons: Persons) -> bool:
    """Whether the query counts these persons."""
    return _joined(cell, persons) and cell.meets(persons.where) is True


def _kept(
    groups: Groups,
    classes: tuple[RowClass, ...],
    cells: list[Cell],
    asked: dict[Keys, list[Cell]],
    k: int,
) -> dict[Keys, list[Cell]]:
    """The groups that are published, and their cells."""
    persons = groups.persons
    sources = range(len(persons.sources))
    if any(_alone(cells, classes, number, (), k) for number in sources):  # rule 1, without keys
        return {}
    own = [_own_keys(groups, number) for number in sources]
    alone = [_alone(cells, classes, number, own[number], k) for number in sources]
    split = [_split(groups, classes, cells, number, own[number]) for number in sources]
    kept = {
        key: of
        for key, of in asked.items()
        if not any(_picked(key, own[number]) in alone[number] for number in sources)  # rule 1
        and _split_well(
            persons, classes, of, [split[n].get(_picked(key, own[n]), set()) for n in sources], k
        )  # rule 2
    }
    everything = prod(map(len, split))
    left_out = sum(_size(of, persons) for key, of in _by_key(cells).items() if key not in kept)
    if len(kept) < everything:  # rule 3
        for size, _, key in sorted(
            ((_size(of, persons), repr(key), key) for key, of in kept.items()), key=itemgetter(0, 1)
        ):
            if left_out >= k:
                break
            del kept[key]
            left_out += size
    return kept


def _alone(
    cells: list[Cell], classes: tuple[RowClass, ...], number: int, places: Sequence[int], k: int
) -> set[Keys]:
    """Rule 1: the keys of a source in which a class holds fewer than k persons that every table has."""
    kept: Counter[tuple[Keys, Keys]] = Counter()
    for cell in cells:
        if cell.owned[number]:
            # Whether they have a row of this source itself is part of their class.
            everywhere = all(there for other, there in enumerate(cell.present) if other != number)
            of = _picked(cell.key, places), _class_of(cell, classes, number)
            kept[of] += cell.persons if everywhere else 0
    return {key for (key, _), count in kept.items() if count < k}


def _by_key(cells: list[Cell]) -> dict[Keys, list[Cell]]:
    by_key: dict[Keys, list[Cell]] = {}
    for cell in cells:
        by_key.setdefault(cell.key, []).append(cell)
    return by_key


def _size(cells: list[Cell], persons: Persons) -> int:
    """How many persons the joins keep."""
    return sum(each.persons for each in cells if _joined(each, persons))


def _class_of(cell: Cell, classes: tuple[RowClass, ...], number: int) -> Keys:
    """The class of a cell's persons in a source, and whether they have a row of it that counts."""
    rows = (met for of, met in zip(classes, cell.rows, strict=True) if of.source == number)
    answers = (value for atom, value in cell.answers.items() if atom.column.table == f"s{number}")
    return (cell.present[number], *rows, *answers)


def _split(
    groups: Groups, classes: tuple[RowClass, ...], cells: list[Cell], number: int, places: Sequence[int]
) -> dict[Keys, set[Keys]]:
    """The classes of a source that a group can hold, by the keys of that source."""
    inner = number in groups.persons.inner
    found: dict[Keys, set[Keys]] = {}
    for cell in cells:
        if cell.owned[number] and (cell.present[number] or not inner):
            found.setdefault(_picked(cell.key, places), set()).add(_class_of(cell, classes, number))
    if not inner:
        rows = (None for each in classes if each.source == number)
        answers = (_of_null(atom) for atom in groups.atoms if atom.column.table == f"s{number}")
        key = tuple(_key_of_null(groups.keys[place]) for place in places)
        found.setdefault(key, set()).add((False, *rows, *answers))
    return found


def _of_null(comparison: Comparison) -> bool | None:
    return True if isinstance(comparison, Missing) else None


def _key_of_null(key: Key) -> int | None:
    """The key of persons whose column is NULL."""
    if not isinstance(key, Bins):
        return None
    atoms = comparisons_of(*(condition for condition, _ in key.cases))
    nobody = Cell((), (), (), (), {each: _of_null(each) for each in atoms}, 0, {})
    met = (label for condition, label in key.cases if nobody.meets(condition) is True)
    return next(met, key.other)


def _own_keys(groups: Groups, number: int) -> tuple[int, ...]:
    columns = [key.column if isinstance(key, Bins) else key for key in groups.keys]
    return tuple(place for place, each in enumerate(columns) if each.table == f"s{number}")


def _picked(key: Keys, places: Iterable[int]) -> Keys:
    return tuple(key[place] for place in places)


def _split_well(
    persons: Persons, classes: tuple[RowClass, ...], cells: list[Cell], wanted: Sequence[set[Keys]], k: int
) -> bool:
    """Rule 2: each combination of the classes that a group can hold holds at least k."""
    if _size(cells, persons) < k * prod(map(len, wanted)):  # which also bounds the product below
        return False
    counts: Counter[tuple[Keys, ...]] = Counter()
    for cell in cells:
        if _joined(cell, persons):
            counts[tuple(_class_of(cell, classes, number) for number in range(len(wanted)))] += cell.persons
    return all(counts[each] >= k for each in product(*wanted))


def _measured(measure: Measure, persons: Persons, cells: list[Cell], k: int) -> Fraction | None:
    of = [each for each in cells if _counts(each, persons) and each.meets(measure.where) is True]
    if isinstance(measure, Count):
        return Fraction(sum(each.persons for each in of))
    scale = measure.column.scale
    if not of or scale is None:
        return None
    values = [each.values[measure.column] for each in of]
    if isinstance(measure, Extreme):
        if measure.kind == "max":
            return shown(max(each.largest[0] for each in values), scale)
        return shown(min(each.smallest[0] for each in values), scale)
    # Rule 4. Each cell is rounded: sums over cells that are put together in many ways then tell nothing more.
    spans = sum(round(_total(each.values[measure.column], each.persons) / scale.most) for each in of)
    return scale.low * sum(each.persons for each in of) + scale.step * scale.most * spans


def _total(values: Values, persons: int) -> Fraction:
    """Rule 4: a cell's sum in steps, as if its outermost values were the mean of the others."""
    left_out = [*values.largest, *values.smallest]
    return Fraction(persons * (values.total - sum(left_out)), persons - len(left_out))
