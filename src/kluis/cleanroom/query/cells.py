"""Cells: the persons of a group who give the same answers to every comparison of the query."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from kluis.cleanroom.query.tree import (
    All,
    Any,
    Column,
    Comparison,
    Condition,
    Key,
    Not,
    Persons,
    Present,
)

Keys = tuple[Hashable, ...]


@dataclass(frozen=True)
class Values:
    """A column's values in a cell, in steps: their sum, and the outermost at either end."""

    total: int
    largest: Sequence[int]
    smallest: Sequence[int]


@dataclass(frozen=True)
class Cell:
    """One cell, as the engine counted it.

    Attributes:
        present: for each source, whether these persons are in it.
        key: the group's.
        answers: to each comparison; None is NULL.
        persons: how many.
        values: of each column that is summed.
    """

    present: tuple[bool, ...]
    key: Keys
    answers: dict[Comparison, bool | None]
    persons: int
    values: dict[Column, Values]

    def meets(self, condition: Condition) -> bool | None:
        """The condition's value for every person of the cell, in SQL's logic of three values."""
        match condition:
            case All(of):
                found = [self.meets(each) for each in of]
                return False if False in found else None if None in found else True
            case Any(of):
                found = [self.meets(each) for each in of]
                return True if True in found else None if None in found else False
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
) -> Cell:
    """Read one row of ``writing``'s cells."""
    a, b = len(persons.sources), len(persons.sources) + len(keys)
    c = b + len(atoms)
    return Cell(
        present=tuple(bool(each) for each in row[:a]),
        key=tuple(row[a:b]),
        answers=dict(zip(atoms, row[b:c], strict=True)),  # type: ignore[arg-type]  # booleans or NULL
        persons=int(row[c]),  # type: ignore[call-overload]
        values={
            column: Values(*row[c + 1 + 3 * place : c + 4 + 3 * place])  # type: ignore[arg-type]
            for place, column in enumerate(values)
        },
    )
