"""Conditions: comparisons of one column with literals, under AND, OR and NOT."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from fractions import Fraction

from sqlglot import exp

from kluis.cleanroom.agreement.terms import Scale
from kluis.cleanroom.query.syntax import describe_construct, only, read_number, read_text
from kluis.cleanroom.query.tree import (
    All,
    Any,
    Column,
    Compare,
    Condition,
    Missing,
    Not,
    OneOf,
    Operator,
    Present,
    QueryError,
    Value,
)

_COMPARISONS: dict[type[exp.Expression], Operator] = {
    exp.LT: "<", exp.LTE: "<=", exp.EQ: "=", exp.GTE: ">=", exp.GT: ">",
}  # fmt: skip
_MIRRORED: dict[Operator, Operator] = {"<": ">", "<=": ">=", "=": "=", ">=": "<=", ">": "<"}

#: The meaning of a name: a column that allows the use, or a source's privacy unit.
Resolve = Callable[[exp.Column], Column | Present]


def read_condition(node: exp.Expression, resolve: Resolve) -> Condition:
    """Read a condition.

    Args:
        node: as parsed.
        resolve: finds a column and checks that the condition may use it.

    Raises:
        QueryError: anything but comparisons with literals under AND, OR and NOT.
    """
    match node:
        case exp.Paren():
            only(node, "this")
            return read_condition(node.this, resolve)
        case exp.And() | exp.Or():
            only(node, "this", "expression")
            sides = (read_condition(node.this, resolve), read_condition(node.expression, resolve))
            return All(sides) if isinstance(node, exp.And) else Any(sides)
        case exp.Not():
            only(node, "this")
            return Not(read_condition(node.this, resolve))
        case exp.Is():
            only(node, "this", "expression")
            if not isinstance(node.expression, exp.Null):
                raise QueryError(
                    "query: want IS NULL or IS NOT NULL", hint="write column = TRUE", code="query_form"
                )
            subject = _find_column(node.this, resolve)
            return Not(subject) if isinstance(subject, Present) else Missing(subject)
        case exp.Between():
            only(node, "this", "low", "high")
            column = _column(node.this, resolve)
            return All((_compare(column, ">=", node.args["low"]), _compare(column, "<=", node.args["high"])))
        case exp.In():
            only(node, "this", "expressions")
            column = _column(node.this, resolve)
            if not node.expressions:
                raise QueryError(f"query: want {column.label} IN a list, got none", code="query_form")
            return OneOf(column, tuple(_equal(column, each) for each in node.expressions))
        case exp.NEQ():
            return Not(_comparison(node, "=", resolve))
        case _ if type(node) in _COMPARISONS:
            return _comparison(node, _COMPARISONS[type(node)], resolve)
        case exp.Column():
            column = _column(node, resolve)
            if column.type != "boolean":
                raise QueryError(
                    f"query: {column.label} is no condition: it is {column.type}", code="query_form"
                )
            return Compare(column, "=", 1)
        case _:
            pass
    raise QueryError(
        f"query: {describe_construct(node)} is not allowed in a condition",
        hint="compare one column with a literal by =, <>, <, <=, >, >=, BETWEEN, IN or IS NULL",
        code="query_form",
    )


def _comparison(node: exp.Expression, operator: Operator, resolve: Resolve) -> Compare:
    only(node, "this", "expression")
    left, right = node.this.unnest(), node.expression.unnest()
    if isinstance(right, exp.Column) and not isinstance(left, exp.Column):
        left, right, operator = right, left, _MIRRORED[operator]
    return _compare(_column(left, resolve), operator, right)


def _compare(column: Column, operator: Operator, node: exp.Expression) -> Compare:
    if column.scale is None or operator == "=":
        return Compare(column, operator, _equal(column, node))
    steps = _steps(column, column.scale, node)
    whole = math.ceil(steps) if operator in ("<", ">=") else math.floor(steps)
    return Compare(column, operator, max(-1, min(whole, column.scale.most + 1)))


def _equal(column: Column, node: exp.Expression) -> Value:
    """A literal as a value of the column."""
    number, text = read_number(node), read_text(_uncast(node, column))
    if column.scale is not None:
        steps = _steps(column, column.scale, node)
        if steps.denominator != 1 or not 0 <= steps <= column.scale.most:
            raise QueryError(
                f"query: {column.label} has no value {_format_literal(node)} in its range and steps",
                code="query_form",
            )
        return int(steps)
    try:
        match column.type:
            case "integer" if number is not None and number.denominator == 1 and abs(number) < 1 << 63:
                return int(number)
            case "number" if number is not None:
                return float(number)
            case "string" if text is not None:
                return text
            case "date" if text is not None:
                return datetime.date.fromisoformat(text)
            case "timestamp" if text is not None:
                instant = datetime.datetime.fromisoformat(text)
                if instant.tzinfo is None:
                    return instant
    except ValueError:
        pass
    raise QueryError(
        f"query: want {column.label} compared with a literal {column.type}, got {_format_literal(node)}",
        code="query_form",
    )


def _steps(column: Column, scale: Scale, node: exp.Expression) -> Fraction:
    number = Fraction(int(node.this)) if isinstance(node, exp.Boolean) else read_number(node)
    if number is None or isinstance(node, exp.Boolean) != (column.type == "boolean"):
        raise QueryError(
            f"query: want {column.label} compared with a literal {column.type}, got {_format_literal(node)}",
            code="query_form",
        )
    return (number - scale.low) / scale.step


def _uncast(node: exp.Expression, column: Column) -> exp.Expression:
    """DATE '...' and TIMESTAMP '...' are parsed as casts of a literal."""
    names = {"date": exp.DType.DATE, "timestamp": exp.DType.TIMESTAMPNTZ}
    if (
        type(node) is exp.Cast
        and isinstance(node.to, exp.DataType)
        and node.to.this == names.get(column.type)
    ):
        only(node, "this", "to")
        inner: exp.Expression = node.this
        return inner
    return node


def _column(node: exp.Expression, resolve: Resolve) -> Column:
    column = _find_column(node, resolve)
    if isinstance(column, Present):
        raise QueryError("query: a privacy unit is compared in JOIN ... ON only", code="query_person")
    return column


def _find_column(node: exp.Expression, resolve: Resolve) -> Column | Present:
    node = node.unnest()
    if not isinstance(node, exp.Column):
        raise QueryError(
            f"query: {describe_construct(node)} is not allowed in a comparison",
            hint="compare a bare column with a literal",
            code="query_form",
        )
    return resolve(node)


def _format_literal(node: exp.Expression) -> str:
    """A literal as written; it is the author's, not a value of the data."""
    return (
        node.sql(dialect="duckdb")[:60]
        if isinstance(node, exp.Literal | exp.Boolean | exp.Neg)
        else describe_construct(node)
    )
