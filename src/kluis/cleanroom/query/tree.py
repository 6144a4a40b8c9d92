"""The tree of a parsed query: a room computes only what it can express.

::

    Groups        keys, measures and outputs over ...     rows leave, by the rules of ``publishing``
    PersonTable   an outcome and predictors over ...      stays inside, for a model
      Persons     sources joined person by person, and a condition
        Source    one data set with one row a person: as it is, or reduced by GROUP BY its privacy unit

Every column has its data set, its type, its scale, the uses its owner allows and the columns it depends on.
Every column may be NULL. The privacy unit is not a column: a source has it, joins use it, and nothing outputs
it.
"""

from __future__ import annotations

import datetime
from fractions import Fraction
from typing import Literal

from kluis.cleanroom.agreement.terms import ColumnType, Scale, Use
from kluis.errors import PolicyError
from kluis.frozen import frozen

MOST_ATOMS = 12

Value = str | int | float | datetime.date | datetime.datetime
Operator = Literal["<", "<=", "=", ">=", ">"]


class QueryError(PolicyError):
    """The query requests something that the tree cannot express, or an owner's terms do not allow."""

    code = "query"


@frozen
class Column:
    """One value for each row.

    Attributes:
        table, name: generated; their names in the generated SQL.
        label: the author's name, for messages.
        scale: of values in steps; None if the owner declared no range.
        allow: the uses that every owner behind it allows.
        depends: the columns, as ``data set.column``, that determine its value or its presence.
    """

    table: str
    name: str
    label: str
    type: ColumnType
    scale: Scale | None
    allow: frozenset[Use]
    depends: frozenset[str]


@frozen
class Compare:
    """A column against a literal in the column's own representation."""

    column: Column
    operator: Operator
    value: Value


@frozen
class OneOf:
    """A column among literals."""

    column: Column
    values: tuple[Value, ...]


@frozen
class Missing:
    """A column that is NULL."""

    column: Column


@frozen
class Present:
    """A source that has a row of this person."""

    source: int


Comparison = Compare | OneOf | Missing
Atom = Comparison | Present


@frozen
class Not:
    """SQL's NOT: NULL stays NULL."""

    of: Condition


@frozen
class All:
    """SQL's AND; of nothing, it is true."""

    of: tuple[Condition, ...]


@frozen
class Any:
    """SQL's OR."""

    of: tuple[Condition, ...]


Condition = Atom | Not | All | Any
ALWAYS = All(())


@frozen
class PerPerson:
    """One value for each person, from that person's rows that meet a condition.

    Attributes:
        kind: ``first`` and ``last`` are by ``by``; the larger value wins a tie. ``avg`` is rounded to a step.
        column: None only for ``count``.
    """

    kind: Literal["avg", "count", "first", "last", "max", "min"]
    column: Column | None
    by: Column | None
    where: Condition


@frozen
class Source:
    """One data set, one row for each person.

    Attributes:
        table: generated; the data set's table in the engine.
        dataset: its name in the agreement.
        unit_type: of the privacy unit, which joins compare.
        reduced: the values of GROUP BY, by generated name; None if the data set has one row for each person.
        where: condition on the rows that are reduced.
    """

    table: str
    dataset: str
    unit_type: ColumnType
    reduced: tuple[PerPerson, ...] | None
    where: Condition


@frozen
class Persons:
    """Sources joined on their privacy units: one row for each person of any of them.

    Attributes:
        inner: the sources, by number, that must contain a counted person; the others are LEFT JOINed.
        where: the condition on a person, without ``inner``.
    """

    sources: tuple[Source, ...]
    inner: frozenset[int]
    where: Condition


@frozen
class Bins:
    """A group key from conditions on one column; the first that is met determines the label."""

    column: Column
    cases: tuple[tuple[Condition, int], ...]
    other: int
    labels: tuple[str | int | None, ...]


Key = Column | Bins


@frozen
class Count:
    """The persons that meet a condition."""

    where: Condition


@frozen
class Sum:
    """The sum of a column over the persons that meet a condition, as coarse as ``publishing`` makes it."""

    column: Column
    where: Condition


@frozen
class Extreme:
    """The least or the largest value: one person's."""

    kind: Literal["max", "min"]
    column: Column
    where: Condition


Measure = Count | Sum | Extreme


@frozen
class Published:
    """A published measure of a group."""

    measure: Measure


@frozen
class Number:
    """A literal."""

    value: Fraction


@frozen
class Arithmetic:
    """Exact arithmetic on published values; division by zero is NULL, ``round`` is to that many decimals."""

    operator: Literal["+", "-", "*", "/", "round"]
    left: Output
    right: Output


@frozen
class KeyOf:
    """A group's key, by number."""

    number: int


Output = Published | Number | Arithmetic | KeyOf


@frozen
class Having:
    """A comparison of outputs; HAVING consists of these."""

    operator: Literal["<", "<=", "=", ">=", ">", "<>", "and", "or", "not"]
    of: tuple[Having | Output, ...]


@frozen
class Groups:
    """A query whose rows are published.

    Attributes:
        order: positions of outputs, and whether each descends; the keys follow.
    """

    persons: Persons
    keys: tuple[Key, ...]
    names: tuple[str, ...]
    outputs: tuple[Output, ...]
    having: Having | None
    order: tuple[tuple[int, bool], ...]
    limit: int | None

    def __post_init__(self) -> None:
        _check_atoms(self.atoms)
        summed = sorted({each.column.label for each in self.measures if isinstance(each, Sum)})
        if len(summed) > 1:
            raise QueryError(
                f"query: want one column to be summed or averaged, got {summed}",
                hint="request each in a separate analysis",
                code="query_form",
            )
        if len(self.persons.sources) > 1 and any(isinstance(each, Extreme) for each in self.measures):
            raise QueryError(
                "query: min and max are allowed in a query of one data set: they show one person's value",
                code="query_form",
            )

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Every measure that outputs or HAVING use, once."""
        unique: dict[Measure, None] = {}
        parts: list[Having | Output] = [*self.outputs, *([self.having] if self.having else [])]
        while parts:
            match parts.pop(0):
                case Published(measure):
                    unique[measure] = None
                case Arithmetic(_, left, right):
                    parts += [left, right]
                case Having(_, of):
                    parts += of
                case Number() | KeyOf():
                    pass
        return tuple(unique)

    @property
    def atoms(self) -> tuple[Comparison, ...]:
        """Every comparison on which a number depends: they split a group into cells."""
        return comparisons_of(self.persons.where, *(each.where for each in self.measures))

    @property
    def values(self) -> tuple[Column, ...]:
        """The columns that are summed, or whose extremes are shown."""
        return tuple(dict.fromkeys(each.column for each in self.measures if not isinstance(each, Count)))


@frozen
class PersonTable:
    """A model's table: one row for each person that meets the condition, with outcome and predictors.

    Attributes:
        person: the name of the column with the privacy unit.
        outcome: name; 1 if the condition is true, else 0.
        predictors: by name; numbers, in steps if the column has a scale.
    """

    persons: Persons
    person: str
    outcome: str
    condition: Condition
    predictors: tuple[tuple[str, Column], ...]

    def __post_init__(self) -> None:
        _check_atoms(self.atoms)

    @property
    def atoms(self) -> tuple[Comparison, ...]:
        """Every comparison on which the persons and the outcome depend."""
        return comparisons_of(self.persons.where, self.condition)


def comparisons_of(*conditions: Condition) -> tuple[Comparison, ...]:
    """Every comparison of some conditions, once, in their order."""
    return tuple(each for each in atoms_of(*conditions) if not isinstance(each, Present))


def _check_atoms(atoms: tuple[Comparison, ...]) -> None:
    if len(atoms) > MOST_ATOMS:
        raise QueryError(
            f"query: want at most {MOST_ATOMS} different comparisons, got {len(atoms)}",
            hint="ask in several analyses",
            code="query_form",
        )


def atoms_of(*conditions: Condition) -> tuple[Atom, ...]:
    """Every atom of some conditions, once, in their order."""
    atoms: dict[Atom, None] = {}
    parts = list(conditions)
    while parts:
        match parts.pop(0):
            case Not(of):
                parts.insert(0, of)
            case All(of) | Any(of):
                parts[:0] = of
            case atom:
                atoms[atom] = None
    return tuple(atoms)


def columns_of(*conditions: Condition) -> tuple[Column, ...]:
    """Every column that some conditions read."""
    return tuple(
        dict.fromkeys(each.column for each in atoms_of(*conditions) if not isinstance(each, Present))
    )
