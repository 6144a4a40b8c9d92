"""Parse the relations in FROM: a data set, or an inner query that renames its columns or reduces its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from sqlglot import exp

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.agreement.terms import Scale, Use
from kluis.cleanroom.data.values import column_name
from kluis.cleanroom.query.conditions import read_condition
from kluis.cleanroom.query.row_classes import check_literals
from kluis.cleanroom.query.syntax import alias_of, describe_construct, name_of, only, output_of
from kluis.cleanroom.query.tree import (
    ALWAYS,
    All,
    Column,
    Condition,
    PerPerson,
    Present,
    QueryError,
    Source,
    columns_of,
)
from kluis.frozen import frozen

_Kind = Literal["avg", "count", "first", "last", "max", "min"]
_REDUCTIONS: dict[type[exp.Expression], _Kind] = {
    exp.ArgMax: "last", exp.ArgMin: "first", exp.Avg: "avg",
    exp.Max: "max", exp.Min: "min", exp.Count: "count",
}  # fmt: skip
_COUNTED: frozenset[Use] = frozenset(("aggregate", "model"))


@frozen
class Relation:
    """A source, with the author's names for its columns.

    Attributes:
        rows: the most rows of one person; 0 if there is no limit.
        units: the names of its privacy unit, in lower case; those of its columns in ``columns`` also.
        joins: whether the privacy unit may join.
    """

    source: Source
    rows: int
    units: frozenset[str]
    columns: Mapping[str, Column]
    joins: bool


def want(column: Column, *uses: Use) -> None:
    """Check that a column allows one of the uses.

    Raises:
        QueryError: names the column and what its owner allows.
    """
    if not column.allow & frozenset(uses):
        raise QueryError(
            f"query: {column.label} may not be used here: want {' or '.join(uses)}, "
            f"its owner allows {sorted(column.allow)}",
            code="query_use",
        )


def base(number: int, dataset: Dataset) -> Relation:
    """The relation of the n-th data set of an analysis, from its terms."""
    table, terms = f"d{number}", dataset.terms
    columns = dict[str, Column]()
    unit = next(each for each in terms.columns if each.name == terms.privacy_unit)
    for place, column in enumerate(terms.columns):
        label = f"{dataset.id}.{column.name}"
        if column is not unit:
            columns[column.name.lower()] = Column(
                table,
                column_name(place),
                label,
                column.type,
                column.scale,
                frozenset(column.allow),
                frozenset((label,)),
            )
    source = Source(table, dataset.id, unit.type, None, ALWAYS)
    return Relation(
        source, terms.rows_per_person, frozenset((terms.privacy_unit.lower(),)), columns, "join" in unit.allow
    )


def inner_query(select: exp.Expression, known: Mapping[str, Relation]) -> Relation:
    """Parse an inner SELECT.

    Raises:
        QueryError: it neither renames one data set's columns nor reduces them by its privacy unit.
    """
    if not isinstance(select, exp.Select):
        raise QueryError(
            f"query: {describe_construct(select)} is not allowed as an inner query", code="query_shape"
        )
    only(select, "expressions", "from_", "where", "group")
    table = select.args["from_"].this if select.args.get("from_") is not None else None
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise QueryError("query: want an inner query FROM one data set", code="query_shape")
    only(select.args["from_"], "this")
    only(table, "this", "alias")
    name = name_of(table.this)
    if name not in known or known[name].source.reduced is not None:
        raise QueryError(f"query: {name} is not an input of this analysis", code="query_table")
    alias = alias_of(table) if table.args.get("alias") is not None else name
    inner = _Inner(known[name], alias)
    return inner.reduce(select) if select.args.get("group") is not None else inner.rename(select)


class _Inner:
    """One inner SELECT over one data set."""

    def __init__(self, relation: Relation, alias: str) -> None:
        self._base, self._alias = relation, alias
        self._units: set[str] = set()
        self._columns: dict[str, Column] = {}

    def rename(self, select: exp.Select) -> Relation:
        if select.args.get("where") is not None:
            raise QueryError(
                "query: WHERE in an inner query without GROUP BY is not allowed",
                hint="put the condition in the outer WHERE",
                code="query_shape",
            )
        for written in select.expressions:
            name, node = output_of(written)
            column = self._find(node)
            if isinstance(column, Present):
                self._units.add(self._once(name))
            else:
                self._columns[self._once(name)] = column
        return replace(self._base, units=frozenset(self._units), columns=self._columns)

    def reduce(self, select: exp.Select) -> Relation:
        group, where = select.args["group"], select.args.get("where")
        only(group, "expressions")
        if len(group.expressions) != 1 or not isinstance(self._find(group.expressions[0]), Present):
            raise QueryError(
                f"query: want an inner GROUP BY of the privacy unit of {self._base.source.dataset}",
                code="query_person",
            )
        rows: Condition = ALWAYS
        if where is not None:
            only(where, "this")
            rows = read_condition(where.this, lambda column: self._bare(column, "filter"))
        check_literals(rows)
        values = list[PerPerson]()
        for written in select.expressions:
            name, node = output_of(written)
            if isinstance(node, exp.Column):
                if not isinstance(self._find(node), Present):
                    raise QueryError(
                        f"query: {node.name} is neither grouped nor aggregated",
                        hint="write arg_max(value, day), avg, min or max",
                        code="query_shape",
                    )
                self._units.add(self._once(name))
                continue
            value = self._value(node)
            check_literals(All((rows, value.where)))
            self._columns[self._once(name)] = self._column(value, rows, name, f"v{len(values)}")
            values.append(value)
        source = replace(self._base.source, reduced=tuple(values), where=rows)
        return replace(self._base, source=source, rows=1, units=frozenset(self._units), columns=self._columns)

    def _value(self, node: exp.Expression) -> PerPerson:
        where: Condition = ALWAYS
        if isinstance(node, exp.Filter):
            only(node, "this", "expression")
            only(node.expression, "this")
            where = read_condition(node.expression.this, lambda column: self._bare(column, "filter"))
            node = node.this
        kind = _REDUCTIONS.get(type(node))
        if kind is None:
            raise QueryError(
                f"query: {describe_construct(node)} is not allowed in an inner query",
                hint="write arg_max, arg_min, avg, min or max of a bare column, or count(*)",
                code="query_function",
            )
        if kind == "count":
            only(node, "this", "big_int")
            if not isinstance(node.this, exp.Star) or not self._base.rows:
                raise QueryError(
                    "query: want count(*) in an inner query, and rows_per_person in the data set's terms",
                    code="query_form",
                )
            return PerPerson(kind, None, None, where)
        only(node, "this", "expression")
        column = self._bare(node.this)
        if kind == "avg" and column.scale is None:
            raise QueryError(f"query: {column.label} has no range: it cannot be averaged", code="query_use")
        by = self._bare(node.expression, "filter") if kind in ("first", "last") else None
        return PerPerson(kind, column, by, where)

    def _column(self, value: PerPerson, rows: Condition, name: str, generated: str) -> Column:
        """A reduced value: its column's type, range and uses, and everything that determines it."""
        deciding = [*columns_of(rows, value.where), *([value.by] if value.by else [])]
        depends = frozenset[str]().union(*(each.depends for each in deciding))
        label = f"{self._base.source.dataset}.{name}"
        if value.column is None:
            scale = Scale(Fraction(0), Fraction(1), self._base.rows)
            column = Column("", generated, label, "integer", scale, _COUNTED, depends)
        else:
            column = replace(
                value.column, table="", name=generated, label=label, depends=value.column.depends | depends
            )
        if any("model" not in each.allow for each in deciding):
            column = replace(column, allow=column.allow - {"model"})
        return column

    def _bare(self, node: exp.Expression | None, *uses: Use) -> Column:
        column = self._find(node, *uses)
        if isinstance(column, Present):
            raise QueryError(
                "query: a privacy unit groups, joins and is counted; it has no other use", code="query_person"
            )
        return column

    def _find(self, node: exp.Expression | None, *uses: Use) -> Column | Present:
        if not isinstance(node, exp.Column):
            raise QueryError(
                f"query: {describe_construct(node)} is not allowed here",
                hint="name a bare column",
                code="query_form",
            )
        only(node, "this", "table")
        name = name_of(node.this)
        if node.args.get("table") is not None and name_of(node.args["table"]) != self._alias:
            raise QueryError(f"query: column {node.name} is not here", code="query_column")
        if name in self._base.units:
            return Present(0)
        if name not in self._base.columns:
            raise QueryError(f"query: column {node.name} is not here", code="query_column")
        if uses:
            want(self._base.columns[name], *uses)
        return self._base.columns[name]

    def _once(self, name: str) -> str:
        if name.lower() in self._units or name.lower() in self._columns:
            raise QueryError(f"query: want each output once, got {name} twice", code="query_shape")
        return name.lower()
