"""Parse the query for a model's table into a tree."""

from __future__ import annotations

from sqlglot import exp

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.agreement.terms import BOOLEAN
from kluis.cleanroom.query.scope import Scope
from kluis.cleanroom.query.syntax import only, outputs_of, parse
from kluis.cleanroom.query.tree import (
    Compare,
    Condition,
    PersonTable,
    Present,
    QueryError,
    atoms_of,
    columns_of,
)


def read_person_table(
    text: str, datasets: tuple[Dataset, ...], person: str, outcome: str, predictors: frozenset[str]
) -> PersonTable:
    """Parse the query for a model's table.

    Args:
        text: the query.
        datasets: the only tables it may read.
        person: the output that is the privacy unit of a source that contains every person.
        outcome: the output to predict: CASE WHEN ... THEN 1 ELSE 0 END, or a column that is 0 or 1.
        predictors: the outputs to predict it from: bare columns that share none with the outcome, nor a table
            that is LEFT JOINed.

    Raises:
        QueryError: names the output that is not allowed.
    """
    select = parse(text)
    only(select, "expressions", "from_", "joins", "where", "with_")
    scope = Scope(select, datasets)
    outputs = outputs_of(select)
    for name in (person, outcome, *sorted(predictors)):
        if name.lower() not in outputs:
            raise QueryError(f"query: no column {name!r} in the model's table", code="query_column")
    unit = outputs[person.lower()]
    unit_column = scope.find(unit) if isinstance(unit, exp.Column) else None
    if not isinstance(unit_column, Present) or unit_column.source not in scope.persons.inner:
        raise QueryError(
            f"query: want {person} to be a privacy unit of a table that is not LEFT JOINed",
            code="query_person",
        )
    condition = _outcome(outputs[outcome.lower()], outcome, scope)
    known = frozenset[str]().union(*(each.depends for each in columns_of(condition)))
    outer = {each.table for each in columns_of(condition)} - {f"s{each}" for each in scope.persons.inner}
    columns = []
    for name in sorted(predictors):
        column = scope.column(outputs[name.lower()], "model")
        if column.table in outer:  # if it is missing, so are the columns of the outcome
            raise QueryError(
                f"query: {name} is of a table that is LEFT JOINed, as the outcome is",
                hint="write JOIN",
                code="query_form",
            )
        if column.type not in ("boolean", "integer", "number"):
            raise QueryError(f"query: {name} is {column.type}: want predictors of numbers", code="query_form")
        shared = sorted(column.depends & known)
        if shared:
            raise QueryError(f"query: {name} depends on {shared}, as the outcome does", code="query_form")
        columns.append((name, column))
    return PersonTable(scope.persons, person, outcome, condition, tuple(columns))


def _outcome(node: exp.Expression, name: str, scope: Scope) -> Condition:
    condition = scope.indicator(node, "model", otherwise=True)
    if condition is not None:
        # Conditions on rows determine who is in a table, and their columns need not allow model.
        if any(isinstance(each, Present) for each in atoms_of(condition)):
            raise QueryError(
                f"query: {name} is computed from a privacy unit: want an outcome from columns that"
                " allow model",
                code="query_person",
            )
        return condition
    if isinstance(node, exp.Column):
        column = scope.column(node, "model")
        if column.scale == BOOLEAN:
            return Compare(column, "=", 1)
    raise QueryError(
        f"query: want {name} to be an outcome",
        hint="write CASE WHEN ... THEN 1 ELSE 0 END, or a column whose range is 0 to 1 by 1",
        code="query_form",
    )
