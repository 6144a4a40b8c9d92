"""What a name in a query stands for: its column, the uses its owner allows, and whose persons it counts.

Every column reference is rewritten to a quoted ``alias.column``, so that DuckDB reads what was checked.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlglot import exp

from kluis.cleanroom.agreement import Dataset
from kluis.cleanroom.query.grammar import QueryError, only
from kluis.cleanroom.terms import Use

USES: frozenset[Use] = frozenset(("aggregate", "extrema", "filter", "group", "join", "model"))


class Form(enum.Enum):
    """How a value depends on its columns; decides whether a sum of it can single a person out.

    A sum with a condition, a product or a rounding inside can be written so that one person's value
    outweighs all others (``case when age = 97 then 1e9 else 1 end``), which no group size notices.
    """

    OTHER = 0
    INDICATOR = 1
    LINEAR = 2


@dataclass(frozen=True)
class Rules:
    """What an inner query may do.

    Attributes:
        filters: any of these lets a column stand in a condition on rows.
        conditions: whether a value may depend on a condition (FILTER, CASE).
    """

    filters: tuple[Use, ...]
    conditions: bool


LEAVES = Rules(("filter",), conditions=False)
"""Of a query whose rows leave: a condition that only an inner query knows cannot be guarded outside."""
STAYS = Rules(("filter", "model"), conditions=True)
"""Of a table that stays inside."""


@dataclass(frozen=True)
class Field:
    """One column of a relation.

    Attributes:
        name: as the relation spells it.
        uses: what every owner behind it allows.
        persons: the data sets whose persons its distinct values count; empty if it is no privacy unit.
        about: the data sets of which a row with this value concerns one person at most. After a left
            join that is more than it counts: the right side may have nobody there.
    """

    name: str
    uses: frozenset[Use]
    form: Form
    persons: frozenset[str]
    about: frozenset[str]


@dataclass(frozen=True)
class Relation:
    """A table in FROM: its fields by lower-case name, and the data sets it is made of."""

    fields: Mapping[str, Field]
    sources: frozenset[str]


def base(dataset: Dataset) -> Relation:
    """The relation of a data set, as its terms have it."""
    source, nobody = frozenset((dataset.id,)), frozenset[str]()
    fields = {}
    for column in dataset.terms.columns:
        unit = source if column.name == dataset.terms.privacy_unit else nobody
        fields[column.name.lower()] = Field(column.name, frozenset(column.allow), Form.LINEAR, unit, unit)
    return Relation(fields, source)


class Scope:
    """The relations that one SELECT sees, by lower-case alias."""

    def __init__(self) -> None:
        self.relations: dict[str, Relation] = {}

    def add(self, alias: str, relation: Relation) -> None:
        """Put a relation in scope.

        Raises:
            QueryError: the alias is taken.
        """
        if alias in self.relations:
            raise QueryError(f"query: want each table name once, got {alias!r} twice", code="query_shape")
        self.relations[alias] = relation

    @property
    def sources(self) -> frozenset[str]:
        """The data sets behind everything in scope."""
        return frozenset[str]().union(*(each.sources for each in self.relations.values()))

    def field(self, column: exp.Column) -> Field:
        """Find a column, and spell it out in the query.

        Raises:
            QueryError: there is none of this name, or more than one.
        """
        only(column, "this", "table")
        name, alias = column.name.lower(), column.table.lower()
        found = [
            (each, relation.fields[name])
            for each, relation in self.relations.items()
            if name in relation.fields and alias in ("", each)
        ]
        if not found:
            raise QueryError(f"query: no column {column.name!r} here", code="query_column")
        if len(found) > 1:
            raise QueryError(
                f"query: column {column.name!r} is in several tables; qualify it", code="query_column"
            )
        column.set("this", exp.to_identifier(found[0][1].name, quoted=True))
        column.set("table", exp.to_identifier(found[0][0], quoted=True))
        return found[0][1]

    def columns(self, node: exp.Expression) -> list[tuple[exp.Column, Field]]:
        """Every column that an expression reads."""
        return [(column, self.field(column)) for column in node.find_all(exp.Column)]

    def want(self, node: exp.Expression, uses: Iterable[Use], doing: str) -> None:
        """Check that every column in an expression may be put to one of these uses, and is no privacy unit.

        Raises:
            QueryError: names the column.
        """
        wanted = frozenset(uses)
        for column, field in self.columns(node):
            if field.persons:
                raise QueryError(
                    f"query: {column.name} is a privacy unit: it cannot {doing}", code="query_person"
                )
            if not field.uses & wanted:
                raise QueryError(
                    f"query: {column.name} may not {doing}: want {'/'.join(sorted(wanted))}, "
                    f"its owner allows {sorted(field.uses)}",
                    code="query_use",
                )

    def units(self) -> list[exp.Column]:
        """As few privacy units in scope as count the persons of every source, spelled out.

        Raises:
            QueryError: a relation has lost its persons.
        """
        units, counted = [], frozenset[str]()
        for alias, relation in self.relations.items():
            for field in relation.fields.values():
                if field.persons - counted:
                    units.append(exp.column(field.name, table=alias, quoted=True))
                    counted |= field.persons
        lost = sorted(self.sources - counted)
        if lost:
            raise QueryError(
                f"query: no privacy unit left for {lost}: select it in the inner query", code="query_person"
            )
        return units

    def join(self, join: exp.Join, alias: str, relation: Relation) -> None:
        """Join a relation on equalities that both owners allow.

        Equal privacy units of an inner join count each other's persons; those of a left join count the
        right side's alone, where it matched.

        Raises:
            QueryError: another kind of join, condition or column.
        """
        only(join, "this", "side", "kind", "on")
        side, kind = (join.side or "").upper(), (join.kind or "").upper()
        if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER"):
            raise QueryError(
                f"query: {side} {kind} JOIN is not allowed; use JOIN or LEFT JOIN".replace("  ", " "),
                code="query_join",
            )
        self.add(alias, relation)
        condition = join.args.get("on")
        if condition is None:
            raise QueryError("query: want JOIN ... ON a.x = b.y", code="query_join")
        for equality in condition.flatten() if isinstance(condition, exp.And) else [condition]:
            self._equate(equality.unnest(), alias, left=side == "LEFT")

    def _equate(self, equality: exp.Expression, alias: str, *, left: bool) -> None:
        a, b = equality.args.get("this"), equality.args.get("expression")
        if not isinstance(equality, exp.EQ) or not isinstance(a, exp.Column) or not isinstance(b, exp.Column):
            raise QueryError("query: want joins on equality of two columns", code="query_join")
        fields = [(column, self.field(column)) for column in (a, b)]
        if (a.table == alias) == (b.table == alias):
            raise QueryError("query: want a join to compare its two sides", code="query_join")
        for column, field in fields:
            if "join" not in field.uses:
                raise QueryError(
                    f"query: {column.name} may not join: its owner allows {sorted(field.uses)}",
                    code="query_use",
                )
        if all(field.persons for _, field in fields):
            together = fields[0][1].persons | fields[1][1].persons
            about = fields[0][1].about | fields[1][1].about
            for column, field in fields:
                counts = field.persons if left and column.table != alias else together
                self._set(column, replace(field, persons=counts, about=about))

    def _set(self, column: exp.Column, field: Field) -> None:
        relation = self.relations[column.table]
        fields = {**relation.fields, column.name.lower(): field}
        self.relations[column.table] = replace(relation, fields=fields)
