"""What leaves of the cells that a query counts. These rules, and nothing else, stand before a result.

1. Persons of one data set who give the same answers to all comparisons on its columns are a class, those on
   rows included (``row_classes``). Each class holds at least k persons that every table has; otherwise
   nothing leaves. So does each class among the persons with the same keys of that data set; otherwise no
   group with those keys leaves.
2. In a group, the persons with the same answers to all comparisons of all data sets are nobody or at least k.
   So are the persons that the joins leave out, by the tables they are in. Otherwise the group is hidden.
3. Of each data set, the persons in no published group are nobody or at least k. Otherwise the smallest group
   is hidden as well.
4. A sum is coarse. In each cell, the outermost values (``writing.tail`` of them at either end) count as the
   mean of the others. The cell's sum is then rounded to whole spans, a span being the width of the range.

Arithmetic, HAVING, ORDER BY and LIMIT see only what these rules let out. ``docs/concepts/what-leaves.md`` has
the attack behind each rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from kluis.cleanroom.query.cells import Cell, Keys, Values, read_cell
from kluis.cleanroom.query.row_classes import RowClass, row_classes
from kluis.cleanroom.query.tree import Bins, Count, Extreme, Groups, Measure, Persons
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
    by_key: dict[Keys, list[Cell]] = {}
    for cell in cells:
        by_key.setdefault(cell.key, []).append(cell)
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
    sources = range(len(groups.persons.sources))
    if any(_alone(cells, classes, number, (), k) for number in sources):  # rule 1, without keys
        return {}
    own = [_own_keys(groups, number) for number in sources]
    alone = [_alone(cells, classes, number, own[number], k) for number in sources]
    kept = {
        key: of
        for key, of in asked.items()
        if not any(_picked(key, own[number]) in alone[number] for number in sources)  # rule 1
        and _split_well(of, groups.persons, k)  # rule 2
    }
    while kept and any(0 < _left_out(cells, kept, number) < k for number in sources):  # rule 3
        del kept[min(kept, key=lambda key: (_size(kept[key]), repr(key)))]
    return kept


def _alone(
    cells: list[Cell], classes: tuple[RowClass, ...], number: int, places: Sequence[int], k: int
) -> set[Keys]:
    """Rule 1: the keys of a source in which a class holds fewer than k persons that every table has."""
    kept: Counter[tuple[Keys, Keys]] = Counter()
    for cell in cells:
        if cell.owned[number]:
            rows = tuple(met for of, met in zip(classes, cell.rows, strict=True) if of.source == number)
            answers = tuple(
                value for atom, value in cell.answers.items() if atom.column.table == f"s{number}"
            )
            # Whether they have a row of this source itself is part of ``rows``.
            everywhere = all(there for other, there in enumerate(cell.present) if other != number)
            kept[_picked(cell.key, places), (*rows, *answers)] += cell.persons if everywhere else 0
    return {key for (key, _), count in kept.items() if count < k}


def _left_out(cells: list[Cell], kept: Mapping[Keys, list[Cell]], number: int) -> int:
    """Rule 3: how many persons of a source are in no published group."""
    return sum(each.persons for each in cells if each.owned[number] and each.key not in kept)


def _size(cells: list[Cell]) -> int:
    return sum(each.persons for each in cells)


def _own_keys(groups: Groups, number: int) -> tuple[int, ...]:
    columns = [key.column if isinstance(key, Bins) else key for key in groups.keys]
    return tuple(place for place, each in enumerate(columns) if each.table == f"s{number}")


def _picked(key: Keys, places: Iterable[int]) -> Keys:
    return tuple(key[place] for place in places)


def _split_well(cells: list[Cell], persons: Persons, k: int) -> bool:
    """Rule 2: every part of a group is nobody or at least k."""
    counts: Counter[Keys] = Counter()
    for cell in cells:
        answers = (*cell.rows, *cell.answers.values()) if _joined(cell, persons) else ()
        counts[cell.present, answers] += cell.persons
    return all(count >= k for count in counts.values())


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
