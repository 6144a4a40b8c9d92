"""Enumerate the answers and keys that persons of a data set can have, whether anyone has them or not.

An answer that nobody has counts as one of fewer than k (``publishing``). So what is possible must not depend
on who is there. A column with literals has an answer for each value next to, between and beyond them, within
the range that its owner declared. Answers about several columns are possible together.

The following come from the data: NULL, which rows a person has, and the values of keys that are bare columns.
So do answers about several values that are reduced from one column, as one of these can exclude another.
"""

from __future__ import annotations

import datetime
import math
import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import product
from math import prod

from kluis.cleanroom.query.cells import Cell, Keys
from kluis.cleanroom.query.row_classes import RowClass
from kluis.cleanroom.query.tree import (
    Bins,
    Column,
    Compare,
    Comparison,
    Condition,
    Groups,
    Key,
    Missing,
    OneOf,
    Source,
    Value,
    comparisons_of,
)

_COMPARE = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip
_INT64 = 1 << 63


def possible_classes(
    groups: Groups, classes: tuple[RowClass, ...], cells: Sequence[Cell], number: int, k: int
) -> dict[Keys, set[Keys] | None]:
    """The classes of a source, as ``class_reader`` reads them, for each combination of its keys that it has.

    Returns:
        None in place of classes for which it has too few persons.
    """
    atoms, read = _atoms(groups, number), class_reader(groups, classes, number)
    source = groups.persons.sources[number]
    places = own_keys(groups, number)
    keys = {place: groups.keys[place] for place in places}
    blocks = _blocks(atoms, source)
    free = [_is_free([atoms[each] for each in block], list(keys.values()), source) for block in blocks]
    rows = sum(each.source == number for each in classes)
    owned = [each for each in cells if each.owned[number]]
    classes_of: dict[Keys, set[Keys]] = {}
    persons: dict[Keys, int] = {}
    seen: dict[Keys, list[set[Keys]]] = {}
    for cell in owned:
        of, own = read(cell), pick(cell.key, places)
        classes_of.setdefault(own, set()).add(of)
        persons[own] = persons.get(own, 0) + cell.persons
        answers = seen.setdefault(of[: 1 + rows], [set() for _ in blocks])
        for place, block in enumerate(blocks):
            answers[place].add(tuple(of[1 + rows + each] for each in block))
    wanted: dict[Keys, set[Keys] | None] = {}
    for own, there in classes_of.items():
        if persons[own] < k:
            wanted[own] = None
            continue
        values = dict(zip(places, own, strict=True))
        options = {
            base: [
                _options(answers, [atoms[each] for each in block], keys, values)
                if alone
                else {tuple(of[1 + rows + each] for each in block) for of in there if of[: 1 + rows] == base}
                for answers, block, alone in zip(seen[base], blocks, free, strict=True)
            ]
            for base in {each[: 1 + rows] for each in there}
        }
        if k * sum(prod(map(len, each)) for each in options.values()) > persons[own]:
            wanted[own] = None
            continue
        order = [each for block in blocks for each in block]
        wanted[own] = set(there)
        for base, answers_of in options.items():
            for chosen in product(*answers_of):
                flat = dict(zip(order, (each for part in chosen for each in part), strict=True))
                # mypy: set just above, and missing only if this loop was left.
                wanted[own].add((*base, *(flat[each] for each in range(len(atoms)))))  # type: ignore[union-attr]
    return wanted


def possible_keys(groups: Groups, present: Iterable[Keys], number: int) -> int:
    """The number of combinations that a source's keys can have; keys of different columns can occur together.

    Args:
        groups: the query.
        present: the source's existing combinations.
        number: of the source.
    """
    places = own_keys(groups, number)
    present = list(present)
    by_column: dict[tuple[str, str], list[int]] = {}
    for at, place in enumerate(places):
        by_column.setdefault(_name(_column_of(groups.keys[place])), []).append(at)
    total = 1
    for ats in by_column.values():
        keys = [groups.keys[places[at]] for at in ats]
        combinations = {pick(each, ats) for each in present}
        column = _column_of(keys[0])
        if all(isinstance(each, Bins) for each in keys) or (column.scale and column.scale.most == 1):
            conditions = [condition for key in keys if isinstance(key, Bins) for condition, _ in key.cases]
            for value in _values(column, comparisons_of(*conditions)):
                combinations.add(tuple(key_of(each, value) for each in keys))
        total *= len(combinations)
    return total


def possible_rows(of: RowClass) -> tuple[int, ...]:
    """The sets of a row class, as bits, whose comparisons one row can meet together."""
    numbers = []
    for met in range(1, 1 << len(of.literals)):
        literals = [each for place, each in enumerate(of.literals) if met >> place & 1]
        columns: dict[tuple[str, str], list[Condition]] = {}
        for each in literals:
            columns.setdefault(_name(comparisons_of(each)[0].column), []).append(each)
        if all(
            any(
                all(_holds(each, value) is True for each in together)
                for value in _values(comparisons_of(*together)[0].column, comparisons_of(*together))
            )
            for together in columns.values()
        ):
            numbers.append(met)
    return tuple(numbers)


def class_reader(groups: Groups, classes: tuple[RowClass, ...], number: int) -> Callable[[Cell], Keys]:
    """A function that reads a cell's class in a source: whether it has a counted row, row classes,
    answers.
    """
    places = [place for place, each in enumerate(classes) if each.source == number]
    atoms = _atoms(groups, number)

    def read(cell: Cell) -> Keys:
        return (
            cell.present[number],
            *(cell.rows[place] for place in places),
            *(cell.answers[atom] for atom in atoms),
        )

    return read


def absent_class(groups: Groups, classes: tuple[RowClass, ...], number: int) -> Keys:
    """The class of persons that a source does not have."""
    rows = (None for each in classes if each.source == number)
    return (False, *rows, *(answer_of(each, None) for each in _atoms(groups, number)))


def _atoms(groups: Groups, number: int) -> list[Comparison]:
    return [each for each in groups.atoms if each.column.table == f"s{number}"]


def key_of(key: Key, value: Value | None) -> Hashable:
    """The key of persons with this value of its column."""
    if not isinstance(key, Bins):
        return value
    return next((label for condition, label in key.cases if _holds(condition, value) is True), key.other)


def own_keys(groups: Groups, number: int) -> tuple[int, ...]:
    """The places of a source's keys among all."""
    return tuple(place for place, each in enumerate(groups.keys) if _column_of(each).table == f"s{number}")


def pick(key: Keys, places: Iterable[int]) -> Keys:
    """Some parts of a key."""
    return tuple(key[place] for place in places)


def answer_of(comparison: Comparison, value: Value | None) -> bool | None:
    """A comparison's answer for a value of its column; None is NULL."""
    match comparison:
        case Missing():
            return value is None
        case _ if value is None:
            return None
        case OneOf(_, values):
            return value in values
        case Compare(_, sign, bound):
            return bool(_COMPARE[sign](value, bound))


def _holds(condition: Condition, value: Value | None) -> bool | None:
    answers = {each: answer_of(each, value) for each in comparisons_of(condition)}
    return Cell((), (), (), (), answers, 0, {}).meets(condition)


def _options(
    seen: set[Keys], atoms: list[Comparison], keys: dict[int, Key], own: dict[int, Hashable]
) -> set[Keys]:
    """The possible answers to comparisons with one column, for persons with these keys."""
    column = atoms[0].column
    null = tuple(answer_of(each, None) for each in atoms)
    options = set(seen)
    about = {place: key for place, key in keys.items() if _name(_column_of(key)) == _name(column)}
    literals = [*atoms]
    for key in about.values():
        if isinstance(key, Bins):
            literals += comparisons_of(*(condition for condition, _ in key.cases))
    values: list[Value | None] = [*_values(column, literals), None]
    # mypy: a part of a key that is not a bin is a value of its column.
    values += [own[place] for place, key in about.items() if not isinstance(key, Bins)]  # type: ignore[misc]
    fitting = {
        tuple(answer_of(each, value) for each in atoms)
        for value in values
        if all(key_of(key, value) == own[place] for place, key in about.items())
    }
    if options != {null}:
        options |= {tuple(answer_of(each, value) for each in atoms) for value in _values(column, literals)}
    return options & fitting if about else options


def _blocks(atoms: list[Comparison], source: Source) -> list[list[int]]:
    """Comparisons by number: those of one column together, or of all values reduced from one column."""
    blocks: dict[Hashable, list[int]] = {}
    for place, atom in enumerate(atoms):
        blocks.setdefault(_base(atom.column, source), []).append(place)
    return list(blocks.values())


def _is_free(atoms: list[Comparison], keys: list[Key], source: Source) -> bool:
    """Whether no other value, reduced from the same column, is compared or is a key."""
    base = _base(atoms[0].column, source)
    about = [each.column for each in atoms] + [_column_of(each) for each in keys]
    return len({_name(each) for each in about if _base(each, source) == base}) == 1


def _base(column: Column, source: Source) -> Hashable:
    if source.reduced is None:
        return column.name
    of = source.reduced[int(column.name.removeprefix("v"))].column
    return of.name if of is not None else None


def _values(column: Column, comparisons: Iterable[Comparison]) -> list[Value]:
    """Values that together have every answer except NULL to some comparisons with one column."""
    literals = set[Value]()
    for each in comparisons:
        literals |= {each.value} if isinstance(each, Compare) else set()
        literals |= set(each.values) if isinstance(each, OneOf) else set()
    if column.scale is not None:
        most = column.scale.most
        # mypy: a column with a scale is compared with a number.
        near = {0, most} | {int(each) + more for each in literals for more in (-1, 0, 1)}  # type: ignore[arg-type]
        return [each for each in sorted(near) if 0 <= each <= most]
    neighbours = [beside for each in literals for beside in _beside(each)]
    return neighbours or [0]


def _beside(value: Value) -> list[Value]:
    """A value, and the nearest on either side; for a string, the least and the next one."""
    match value:
        case str():
            return ["", value, value + "\0"]
        case int():
            return [each for each in (value - 1, value, value + 1) if -_INT64 <= each < _INT64]
        case float():
            return [math.nextafter(value, -math.inf), value, math.nextafter(value, math.inf)]
        case datetime.datetime():
            return _shift(value, datetime.timedelta(microseconds=1))
        case datetime.date():
            return _shift(value, datetime.timedelta(days=1))


def _shift(value: datetime.date, by: datetime.timedelta) -> list[Value]:
    shifted: list[Value] = [value]
    if value > type(value).min:
        shifted.append(value - by)
    if value < type(value).max:
        shifted.append(value + by)
    return shifted


def _column_of(key: Key) -> Column:
    return key.column if isinstance(key, Bins) else key


def _name(column: Column) -> tuple[str, str]:
    return column.table, column.name
