"""Cells: the persons of a group who have the same answers to every comparison of the query."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import accumulate

from kluis.cleanroom.query.row_classes import RowClass
from kluis.cleanroom.query.tree import All, Any, Column, Comparison, Condition, Key, Not, Persons, Present
from kluis.frozen import frozen

Keys = tuple[Hashable, ...]


@frozen
class Values:
    """A column's values in a cell, in steps: their sum, and the outermost at either end."""

    total: int
    largest: Sequence[int]
    smallest: Sequence[int]


@frozen
class Cell:
    """One cell, as the engine counted it.

    Attributes:
        owned: for each source, whether its data set has these persons.
        present: for each source, whether they have a row that meets its condition.
        rows: of each row class, the sets of comparisons that one row meets; None if not owned.
        key: of the group.
        answers: to each comparison; None is NULL.
        persons: number of persons.
        values: of each summed column.
    """

    owned: tuple[bool, ...]
    present: tuple[bool, ...]
    rows: tuple[int | None, ...]
    key: Keys
    answers: dict[Comparison, bool | None]
    persons: int
    values: dict[Column, Values]

    def meets(self, condition: Condition) -> bool | None:
        """The condition's value for every person of the cell, in SQL's logic of three values."""
        match condition:
            case All(of):
                results = [self.meets(each) for each in of]
                return False if False in results else None if None in results else True
            case Any(of):
                results = [self.meets(each) for each in of]
                return True if True in results else None if None in results else False
            case Not(of):
                value = self.meets(of)
                return None if value is None else not value
            case Present(number):
                return self.present[number]
            case _:
                return self.answers[condition]


def read_cell(
    row: Sequence[object],
    persons: Persons,
    keys: tuple[Key, ...],
    atoms: tuple[Comparison, ...],
    values: tuple[Column, ...],
    classes: tuple[RowClass, ...],
) -> Cell:
    """Decode one row of ``writing``'s cells."""
    ends = accumulate((len(persons.sources), len(persons.sources), len(classes), len(keys), len(atoms)))
    a, b, c, d, e = ends
    return Cell(
        owned=tuple(bool(each) for each in row[:a]),
        present=tuple(bool(each) for each in row[a:b]),
        rows=tuple(row[b:c]),  # type: ignore[arg-type]  # whole numbers or NULL
        key=tuple(row[c:d]),
        answers=dict(zip(atoms, row[d:e], strict=True)),  # type: ignore[arg-type]  # booleans or NULL
        persons=int(row[e]),  # type: ignore[call-overload]  # a count
        values={
            column: Values(*row[e + 1 + 3 * place : e + 4 + 3 * place])  # type: ignore[arg-type]  # our SQL
            for place, column in enumerate(values)
        },
    )
