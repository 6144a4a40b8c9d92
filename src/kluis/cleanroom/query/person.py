"""Tables of one row a person, or finer: the inner queries of a guarded one, and the table of a model.

A row of such a table belongs to one person of every data set it is made of, so nothing in it can sum up
to hide behind. Its columns inherit the uses that every owner behind them allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from kluis.cleanroom.agreement import Dataset
from kluis.cleanroom.query.grammar import AGGREGATES, DIALECT, EXTREMA, QueryError, only, parse
from kluis.cleanroom.query.scope import STAYS, USES, Field, Form, Relation, Rules, Scope, base

Tables = Mapping[str, Relation]
_CLAUSES = ("expressions", "from_", "joins", "where", "group", "with_")


@dataclass(frozen=True)
class PersonTable:
    """A checked table that stays inside: the SQL to run, and its columns in order."""

    sql: str
    columns: tuple[str, ...]


def person_table(
    text: str, datasets: tuple[Dataset, ...], person: str, features: frozenset[str]
) -> PersonTable:
    """Check the table of a model.

    Args:
        text: the query.
        datasets: the only tables it may read.
        person: the column that says whose row it is; must be a privacy unit of every data set.
        features: the outcome and the predictors; each must come from columns that allow ``model``.

    Raises:
        QueryError: names the column or the clause that is not allowed.
    """
    select = parse(text)
    relation = relation_of(select, {each.id.lower(): base(each) for each in datasets}, STAYS)
    unit = relation.fields.get(person.lower())
    if unit is None or unit.about != relation.sources:
        raise QueryError(
            f"query: want {person} to be the privacy unit of {sorted(relation.sources)}", code="query_person"
        )
    for name in sorted(features):
        field = relation.fields.get(name.lower())
        if field is None:
            raise QueryError(f"query: no column {name!r} in the model's table", code="query_column")
        if "model" not in field.uses or field.persons:
            raise QueryError(
                f"query: {name} may not model: its owner allows {sorted(field.uses)}", code="query_use"
            )
    return PersonTable(select.sql(dialect=DIALECT), tuple(field.name for field in relation.fields.values()))


def relation_of(select: exp.Select, tables: Tables, rules: Rules) -> Relation:
    """Check one inner SELECT and say what it yields.

    Raises:
        QueryError: it is not a table of persons, or uses a column as its owner does not allow.
    """
    only(select, *_CLAUSES)
    scope = scope_of(select, tables, rules)
    where = select.args.get("where")
    if where is not None:
        scope.want(where, rules.filters, "filter")
    keys = group_keys(select)
    about = frozenset[str]()
    for key in keys:
        if not isinstance(key, exp.Column):
            raise QueryError("query: want an inner GROUP BY to name columns", code="query_shape")
        about |= scope.field(key).about
    sources = scope.sources
    if keys and about != sources:
        raise QueryError(
            f"query: want an inner GROUP BY to hold the privacy unit of {sorted(sources)}",
            code="query_person",
        )
    fields: dict[str, Field] = {}
    for projection in select.expressions:
        field = _project(projection, scope, {key.sql() for key in keys}, bool(keys), rules)
        if field.name.lower() in fields:
            raise QueryError(f"query: want each output once, got {field.name!r} twice", code="query_shape")
        fields[field.name.lower()] = field
    kept = frozenset[str]().union(*(field.about for field in fields.values()))
    if kept != sources:
        raise QueryError(
            f"query: want an inner query to select the privacy unit of {sorted(sources - kept)}",
            code="query_person",
        )
    return Relation(fields, sources)


def scope_of(select: exp.Select, tables: Tables, rules: Rules) -> Scope:
    """Resolve WITH, FROM and JOIN.

    Raises:
        QueryError: a table that the analysis does not name as an input, or a join that is not allowed.
    """
    known = dict(tables)
    with_ = select.args.get("with_")
    if with_ is not None:
        only(with_, "expressions")
        for cte in with_.expressions:
            only(cte, "this", "alias")
            name = cte.alias.lower()
            if name in known or not isinstance(cte.this, exp.Select):
                raise QueryError(
                    f"query: want WITH {name} to be a SELECT under a new name", code="query_shape"
                )
            known[name] = relation_of(cte.this, known, rules)
    from_ = select.args.get("from_")
    if from_ is None:
        raise QueryError("query: want FROM", code="query_shape")
    scope = Scope()
    scope.add(*_source(from_.this, known, rules))
    for join in select.args.get("joins") or []:
        scope.join(join, *_source(join.this, known, rules))
    return scope


def group_keys(select: exp.Select) -> list[exp.Expression]:
    """The expressions of GROUP BY, with positions and output names replaced by what they stand for.

    Raises:
        QueryError: ALL, ROLLUP, CUBE or grouping sets.
    """
    group = select.args.get("group")
    if group is None:
        return []
    only(group, "expressions")
    outputs = {each.alias.lower(): each.this for each in select.expressions if isinstance(each, exp.Alias)}
    keys = []
    for written in group.expressions:
        key = written
        if isinstance(written, exp.Literal):
            key = _at(select, written)
        elif isinstance(written, exp.Column) and not written.table and written.name.lower() in outputs:
            key = outputs[written.name.lower()]
        keys.append(key.copy())
    group.set("expressions", keys)
    return list(group.expressions)


def form_of(node: exp.Expression, scope: Scope) -> Form:
    """How a row's value depends on its columns."""
    match node:
        case exp.Column():
            return scope.field(node).form
        case exp.Literal():
            return Form.LINEAR
        case exp.Paren() | exp.Neg():
            return form_of(node.this, scope)
        case exp.Add() | exp.Sub():
            both = {form_of(node.this, scope), form_of(node.expression, scope)}
            return Form.LINEAR if both == {Form.LINEAR} else Form.OTHER
        case exp.Mul() | exp.Div():
            constant = isinstance(node.expression, exp.Literal) and form_of(node.this, scope) is Form.LINEAR
            return Form.LINEAR if constant else Form.OTHER
        case exp.Case() if len(node.args["ifs"]) == 1 and node.args.get("this") is None:
            then, other = node.args["ifs"][0].args["true"], node.args.get("default")
            if _is(then, "1") and _is(other, "0"):
                return Form.INDICATOR
            # Without ELSE the other rows are NULL: they count for nothing, and the guard does not count them.
            return Form.LINEAR if other is None and form_of(then, scope) is Form.LINEAR else Form.OTHER
        case _:
            return Form.OTHER


def output_name(projection: exp.Expression) -> str:
    """The name of an output column.

    Raises:
        QueryError: it has none.
    """
    name: str = projection.alias_or_name
    if not name or isinstance(projection, exp.Star) or not isinstance(projection, exp.Alias | exp.Column):
        raise QueryError(
            f"query: want a name for {projection.sql(dialect=DIALECT)}: add AS name", code="query_shape"
        )
    return name


def _project(projection: exp.Expression, scope: Scope, keys: set[str], grouped: bool, rules: Rules) -> Field:
    name, node = output_name(projection), projection.unalias()
    columns = scope.columns(node)
    uses = frozenset(USES)
    for _, field in columns:
        uses &= field.uses
    if isinstance(node, exp.Column):
        field = scope.field(node)
        if grouped and node.sql() not in keys:
            raise QueryError(f"query: {node.name} is neither grouped nor aggregated", code="query_shape")
        return Field(name, field.uses, field.form, field.persons, field.about)
    for column, field in columns:
        if field.persons:
            raise QueryError(
                f"query: {column.name} is a privacy unit: select it bare or not at all", code="query_person"
            )
    aggregates = list(node.find_all(*AGGREGATES, *EXTREMA))
    if bool(aggregates) != grouped:
        raise QueryError(
            f"query: {name}: aggregates go with GROUP BY, and nothing else does", code="query_shape"
        )
    if not rules.conditions and node.find(exp.Filter) is not None:
        raise QueryError(
            f"query: {name}: FILTER is not allowed in an inner query; use WHERE", code="query_form"
        )
    if not aggregates:
        form = form_of(node, scope)
        hidden = form is Form.LINEAR and not rules.conditions and node.find(exp.Case) is not None
        return Field(name, uses, Form.OTHER if hidden else form, frozenset(), frozenset())
    inner = node.this if isinstance(node, exp.Filter) else node
    if isinstance(node, exp.Filter):
        scope.want(node.expression, rules.filters, "filter")
        uses = frozenset(USES)
        for _, field in scope.columns(inner):
            uses &= field.uses
    if not isinstance(inner, AGGREGATES + EXTREMA) or len(aggregates) > 1:
        raise QueryError(f"query: {name}: want one aggregate a column in an inner query", code="query_shape")
    if isinstance(inner, exp.Count):
        return Field(name, uses & {"aggregate", "model"}, Form.LINEAR, frozenset(), frozenset())
    values = [inner.this] + ([inner.expression] if inner.args.get("expression") is not None else [])
    linear = all(form_of(value, scope) is Form.LINEAR and value.find(exp.Case) is None for value in values)
    return Field(name, uses, Form.LINEAR if linear else Form.OTHER, frozenset(), frozenset())


def _source(node: exp.Expression, known: Tables, rules: Rules) -> tuple[str, Relation]:
    if isinstance(node, exp.Subquery):
        only(node, "this", "alias")
        if not node.alias or not isinstance(node.this, exp.Select):
            raise QueryError(
                "query: want a name for the inner query: (SELECT ...) AS name", code="query_shape"
            )
        relation, alias = relation_of(node.this, known, rules), node.alias
    elif isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        only(node, "this", "alias")
        if node.name.lower() not in known:
            raise QueryError(f"query: {node.name} is not an input of this analysis", code="query_table")
        relation, alias = known[node.name.lower()], node.alias_or_name
    else:
        raise QueryError("query: want a data set or (SELECT ...) in FROM", code="query_shape")
    if node.args.get("alias") is not None:
        only(node.args["alias"], "this")
    node.set("alias", exp.TableAlias(this=exp.to_identifier(alias.lower(), quoted=True)))
    return alias.lower(), relation


def _at(select: exp.Select, position: exp.Literal) -> exp.Expression:
    if (
        position.is_string
        or not position.name.isdigit()
        or not 1 <= int(position.name) <= len(select.expressions)
    ):
        raise QueryError(f"query: no output column {position.name}", code="query_shape")
    chosen: exp.Expression = select.expressions[int(position.name) - 1]
    return chosen.unalias()


def _is(node: exp.Expression | None, number: str) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and node.name == number
