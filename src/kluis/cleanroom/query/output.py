"""A query whose rows leave the room: only groups, each number resting on at least k persons.

The rules, and the trap each closes:

1. Every output is a group key or made of aggregates: no row of a person.
2. ``count(DISTINCT privacy unit) >= k`` for every data set in every group: a join repeats rows, so rows
   are not persons.
3. The same for the rows that an aggregate really uses, neither NULL nor zero: a mean over forty persons
   of whom three were measured rests on three. An indicator needs k on either side.
4. What is summed is linear in its columns: a condition or a product inside a sum can let one person
   outweigh the rest of the group.
5. Minimum, maximum and median show one person's value: they need ``extrema``.
6. The conditions in FILTER and CASE split a group into parts, and every part holds nobody or k persons:
   otherwise the sum of all less the sum of most is one person's value. A data set is read once, and an
   inner query has no condition of its own but WHERE, or the same could be done with two of them.

Groups that a rule hides are counted, and the count leaves as a range. Not closed here: one analysis less
another that differs by few persons. Every owner reads, and signs, all of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sqlglot import exp

from kluis.cleanroom.agreement import Dataset
from kluis.cleanroom.query.grammar import AGGREGATES, COMPARISONS, DIALECT, EXTREMA, QueryError, only, parse
from kluis.cleanroom.query.person import Tables, form_of, group_keys, output_name, scope_of
from kluis.cleanroom.query.scope import LEAVES, Form, Scope, base
from kluis.cleanroom.terms import Use

MOST_CONDITIONS = 4
_CLAUSES = ("expressions", "from_", "joins", "where", "group", "having", "order", "limit", "with_")
_AFTER = (
    exp.Paren, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Round, exp.Abs, exp.Floor, exp.Ceil,
    exp.Coalesce, exp.TryCast, exp.Case, exp.If, exp.And, exp.Or, exp.Not, *COMPARISONS,
)  # fmt: skip


@dataclass(frozen=True)
class Guarded:
    """A query as it will run.

    Attributes:
        sql: with the output rules in HAVING and a fixed order of rows.
        hidden_sql: counts the groups that the rules hide.
        columns: the output's names, in order.
        k: the fewest persons behind any number of it.
    """

    sql: str
    hidden_sql: str
    columns: tuple[str, ...]
    k: int


def guard(text: str, datasets: tuple[Dataset, ...], k: int) -> Guarded:
    """Check a query and write the output rules into it.

    Args:
        text: the query, as the agreement has it.
        datasets: the only tables it may read.
        k: the fewest persons; the largest that the agreement or an owner's terms ask for.

    Raises:
        QueryError: names the column, function or clause that is not allowed; quotes no value.
    """
    select = parse(text)
    read = [table.name.lower() for table in select.find_all(exp.Table)]
    for name in read:
        if read.count(name) > 1:
            raise QueryError(f"query: {name} is read twice; once is allowed", code="query_table")
    return _Output(select, {each.id.lower(): base(each) for each in datasets}, k).guarded()


class _Output:
    def __init__(self, select: exp.Select, tables: Tables, k: int) -> None:
        only(select, *_CLAUSES)
        self.select, self.k = select, k
        self.scope: Scope = scope_of(select, tables, LEAVES)
        self.names = tuple(output_name(each) for each in select.expressions)
        if len({name.lower() for name in self.names}) != len(self.names):
            raise QueryError(f"query: want each output once, got {list(self.names)}", code="query_shape")
        self.units = self.scope.units()
        self.guards: list[exp.Expression] = [self._persons(None)]
        self.keys: list[exp.Expression] = []
        self.conditions: dict[str, exp.Expression] = {}

    def guarded(self) -> Guarded:
        select = self.select
        where = select.args.get("where")
        if where is not None:
            self._no_aggregate(where, "WHERE")
            self.scope.want(where, ("filter",), "filter")
        self.keys = group_keys(select)
        for key in self.keys:
            self._no_aggregate(key, "GROUP BY")
            self.scope.want(key, ("group",), "group")
            if not list(key.find_all(exp.Column)):
                raise QueryError("query: want GROUP BY to name columns", code="query_shape")
        for projection in select.expressions:
            self._output(projection.unalias())
        having = select.args.get("having")
        if having is not None:
            self._output(having.this)
        order = self._order()
        rules = exp.and_(*self.guards, *self._parts())
        hidden = exp.select(exp.alias_(exp.Literal.number(1), "n"))
        for clause in ("with_", "from_", "joins", "where", "group"):
            if select.args.get(clause):
                value = select.args[clause]
                hidden.set(
                    clause, [each.copy() for each in value] if isinstance(value, list) else value.copy()
                )
        hidden = hidden.having(
            exp.not_(exp.Coalesce(this=exp.paren(rules.copy()), expressions=[exp.false()]))
        )
        select.set("having", exp.Having(this=exp.and_(having.this, rules) if having is not None else rules))
        select.set("order", order)
        count = exp.select("count(*)").from_(hidden.subquery("hidden"))
        return Guarded(select.sql(dialect=DIALECT), count.sql(dialect=DIALECT), self.names, self.k)

    def _output(self, node: exp.Expression) -> None:
        """Rule 1: a key, or made of aggregates."""
        for _ in self.scope.columns(node):
            pass  # spells every column out, so that a key is recognised however it is written
        if any(node.sql() == key.sql() for key in self.keys):
            return
        match node:
            case exp.Filter():
                self._aggregate(node.this, node.expression.this)
            case _ if isinstance(node, AGGREGATES + EXTREMA):
                self._aggregate(node, None)
            case exp.Literal() | exp.Boolean() | exp.Null() | exp.DataType():
                return
            case exp.Column():
                raise QueryError(f"query: {node.name} is neither grouped nor aggregated", code="query_shape")
            case _ if isinstance(node, _AFTER):
                for child in node.iter_expressions():
                    self._output(child)
            case _:
                raise QueryError(
                    f"query: {node.sql(dialect=DIALECT)} is not allowed in an output", code="query_shape"
                )

    def _aggregate(self, node: exp.Expression, where: exp.Expression | None) -> None:
        if not isinstance(node, AGGREGATES + EXTREMA):
            raise QueryError("query: want FILTER on an aggregate", code="query_shape")
        only(node, "this", "expression", "big_int")
        argument = node.this
        if where is not None:
            self._no_aggregate(where, "FILTER")
            self.scope.want(where, ("filter",), "filter")
            self._condition(where)
        if isinstance(node, exp.Count) and isinstance(argument, exp.Star):
            self._guard(where)
            return
        if isinstance(argument, exp.Distinct):
            only(argument, "expressions")
            if len(argument.expressions) != 1:
                raise QueryError("query: want count(DISTINCT one column)", code="query_shape")
            argument = argument.expressions[0]
            if isinstance(argument, exp.Column) and self.scope.field(argument).persons:
                self._guard(where)
                return
        self._no_aggregate(argument, "an aggregate")
        self._check_values(node, argument)
        if isinstance(node, (exp.Count, *EXTREMA)):
            used = exp.not_(exp.Is(this=exp.paren(argument.copy()), expression=exp.null()))
        else:
            used = exp.NEQ(this=exp.paren(argument.copy()), expression=exp.Literal.number(0))
        self._guard(where, used)
        for case in argument.find_all(exp.Case):
            self._condition(case.args["ifs"][0].this)
        if form_of(argument, self.scope) is Form.INDICATOR:
            self._condition(exp.NEQ(this=exp.paren(argument.copy()), expression=exp.Literal.number(0)))
            self._guard(where, exp.EQ(this=exp.paren(argument.copy()), expression=exp.Literal.number(0)))

    def _check_values(self, node: exp.Expression, argument: exp.Expression) -> None:
        """Rules 4 and 5."""
        use: Use = "extrema" if isinstance(node, EXTREMA) else "aggregate"
        values = [argument] + ([node.expression] if node.args.get("expression") is not None else [])
        for value in values:
            self.scope.want(value, (use,), "be aggregated" if use == "aggregate" else "show an extreme")
            if form_of(value, self.scope) is Form.OTHER:
                raise QueryError(
                    f"query: {node.sql(dialect=DIALECT)}: want a sum of columns times constants, or "
                    "CASE WHEN ... THEN 1 ELSE 0 END; filter with WHERE",
                    code="query_form",
                )

    def _guard(self, *conditions: exp.Expression | None) -> None:
        """Rule 3, for one aggregate."""
        given = [each.copy() for each in conditions if each is not None]
        if given:
            self.guards.append(self._persons(exp.and_(*given)))

    def _condition(self, condition: exp.Expression) -> None:
        self.conditions.setdefault(condition.sql(), condition)

    def _parts(self) -> list[exp.Expression]:
        """Rule 6: every part that the conditions split a group into holds nobody, or k persons."""
        if len(self.conditions) > MOST_CONDITIONS:
            raise QueryError(
                f"query: want at most {MOST_CONDITIONS} different conditions in FILTER and CASE, "
                f"got {len(self.conditions)}",
                code="query_form",
            )
        met = [
            exp.Coalesce(this=exp.paren(each.copy()), expressions=[exp.false()])
            for each in self.conditions.values()
        ]
        parts = []
        for signs in itertools.product((True, False), repeat=len(met)) if met else ():
            part = exp.and_(
                *(each if sign else exp.not_(each) for each, sign in zip(met, signs, strict=True))
            )
            for unit in self.units:
                count = self._count(unit, part)
                nobody = exp.EQ(this=count.copy(), expression=exp.Literal.number(0))
                parts.append(
                    exp.paren(exp.or_(nobody, exp.GTE(this=count, expression=exp.Literal.number(self.k))))
                )
        return parts

    def _persons(self, condition: exp.Expression | None) -> exp.Expression:
        """Rule 2: at least k distinct persons of every data set, among the rows that meet a condition."""
        enough = []
        for unit in self.units:
            count = self._count(unit, condition)
            enough.append(exp.GTE(this=count, expression=exp.Literal.number(self.k)))
        return exp.and_(*enough)

    def _count(self, unit: exp.Column, condition: exp.Expression | None) -> exp.Expression:
        counted: exp.Expression = unit.copy()
        if condition is not None:
            counted = exp.Case(ifs=[exp.If(this=condition.copy(), true=unit.copy())])
        return exp.Count(this=exp.Distinct(expressions=[counted]))

    def _order(self) -> exp.Order:
        """ORDER BY by output, then by the keys: the order of rows says nothing else."""
        given: list[exp.Ordered] = []
        order = self.select.args.get("order")
        if order is not None:
            only(order, "expressions")
            for each in order.expressions:
                only(each, "this", "desc", "nulls_first")
                given.append(
                    exp.Ordered(
                        this=exp.Literal.number(self._position(each.this)), desc=bool(each.args.get("desc"))
                    )
                )
        outputs = [each.unalias().sql() for each in self.select.expressions]
        given.extend(
            exp.Ordered(this=exp.Literal.number(outputs.index(key.sql()) + 1))
            for key in self.keys
            if key.sql() in outputs
        )
        limit = self.select.args.get("limit")
        if limit is not None:
            only(limit, "expression")
            if not isinstance(limit.expression, exp.Literal) or not limit.expression.name.isdigit():
                raise QueryError("query: want LIMIT to be a whole number", code="query_shape")
        return exp.Order(expressions=given or [exp.Ordered(this=exp.Literal.number(1))])

    def _position(self, node: exp.Expression) -> int:
        if isinstance(node, exp.Literal) and node.name.isdigit() and 1 <= int(node.name) <= len(self.names):
            return int(node.name)
        lower = [name.lower() for name in self.names]
        if isinstance(node, exp.Column) and node.name.lower() in lower:
            return lower.index(node.name.lower()) + 1
        raise QueryError("query: want ORDER BY to name outputs", code="query_shape")

    def _no_aggregate(self, node: exp.Expression, where: str) -> None:
        if node.find(*AGGREGATES, *EXTREMA, exp.Subquery, exp.Select) is not None:
            raise QueryError(f"query: want no aggregate or inner query in {where}", code="query_shape")
