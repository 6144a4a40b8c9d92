"""Parse a query whose rows are published into a tree: keys, measures and computed outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from sqlglot import exp

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.query.scope import Scope
from kluis.cleanroom.query.syntax import (
    case_of,
    describe_construct,
    name_of,
    only,
    output_of,
    outputs_of,
    parse,
    read_number,
    read_text,
)
from kluis.cleanroom.query.tree import (
    ALWAYS,
    All,
    Arithmetic,
    Bins,
    Column,
    Compare,
    Condition,
    Count,
    Extreme,
    Groups,
    Having,
    Key,
    KeyOf,
    Missing,
    Not,
    Number,
    Output,
    Present,
    Published,
    QueryError,
    Sum,
    atoms_of,
    columns_of,
)

_CLAUSES = ("expressions", "from_", "joins", "where", "group", "having", "order", "limit", "with_")
_AGGREGATES = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max)
_ARITHMETIC = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}
_HAVING = {
    exp.LT: "<", exp.LTE: "<=", exp.EQ: "=", exp.GTE: ">=", exp.GT: ">", exp.NEQ: "<>", exp.And: "and",
    exp.Or: "or",
}  # fmt: skip


def read_groups(text: str, datasets: tuple[Dataset, ...]) -> Groups:
    """Parse a query whose rows are published.

    Args:
        text: the query, from the agreement.
        datasets: the only tables it may read.

    Raises:
        QueryError: names what the tree cannot express, or what an owner does not allow.
    """
    select = parse(text)
    only(select, *_CLAUSES)
    return _Groups(select, Scope(select, datasets)).read()


@dataclass
class _Groups:
    select: exp.Select
    scope: Scope
    keys: list[Key] = field(default_factory=list)

    def read(self) -> Groups:
        written = outputs_of(self.select)
        self._read_keys(written)
        outputs = {name: self._output(node, top=True) for name, node in written.items()}
        having = self.select.args.get("having")
        return Groups(
            persons=self.scope.persons,
            keys=tuple(self.keys),
            names=tuple(output_of(each)[0] for each in self.select.expressions),
            outputs=tuple(outputs.values()),
            having=self._having(having.this, outputs) if having is not None else None,
            order=self._order(list(written)),
            limit=self._limit(),
        )

    def _read_keys(self, outputs: dict[str, exp.Expression]) -> None:
        group = self.select.args.get("group")
        if group is None:
            return
        only(group, "expressions")
        for node in group.expressions:
            key = self._key(self._read_group(node, outputs))
            if key not in self.keys:
                self.keys.append(key)

    def _read_group(self, node: exp.Expression, outputs: dict[str, exp.Expression]) -> exp.Expression:
        """The columns of GROUP BY: an output by number or name, or a column."""
        number = read_number(node)
        if number is not None:
            return list(outputs.values())[_position(number, len(outputs), "GROUP BY")]
        if isinstance(node, exp.Column) and node.args.get("table") is None:
            named = outputs.get(name_of(node.this))
            if named is not None and self.scope.find(node) is None:
                return named
            if named is not None and named != node and self._key(named) != self._key(node):
                raise QueryError(
                    f"query: GROUP BY {node.name} is a column and another output", code="query_column"
                )
        return node

    def _key(self, node: exp.Expression) -> Key:
        node = node.unnest()
        if isinstance(node, exp.Case):
            return self._bins(node)
        column = self.scope.column(node, "group")
        if column.type == "number" and column.scale is None:
            raise QueryError(
                f"query: {column.label} has no range: it cannot be grouped as it is",
                hint="group it by CASE WHEN ... THEN 'label' ... END",
                code="query_form",
            )
        return column

    def _bins(self, node: exp.Case) -> Bins:
        only(node, "ifs", "default")
        cases, labels = list[tuple[Condition, int]](), list[str | int | None]()
        for arm in node.args["ifs"]:
            only(arm, "this", "true")
            label = _label(arm.args["true"])
            if label not in labels:
                labels.append(label)
            cases.append((self.scope.condition(arm.this, "group"), labels.index(label)))
        other = _label(node.args.get("default"))
        if other not in labels:
            labels.append(other)
        conditions = [each for each, _ in cases]
        columns = columns_of(*conditions)
        if len(columns) != 1 or any(isinstance(each, Present) for each in atoms_of(*conditions)):
            raise QueryError("query: want GROUP BY CASE over one column", code="query_form")
        if len({type(each) for each in labels if each is not None}) > 1:
            raise QueryError("query: want labels of one type in CASE", code="query_form")
        return Bins(columns[0], tuple(cases), labels.index(other), tuple(labels))

    def _output(self, node: exp.Expression, *, top: bool = False) -> Output:
        number = read_number(node)
        if number is not None:
            return Number(number)
        if top and isinstance(node.unnest(), exp.Column | exp.Case):
            return self._key_of(node.unnest())
        match node:
            case exp.Paren():
                only(node, "this")
                return self._output(node.this)
            case exp.Neg():
                only(node, "this")
                return Arithmetic("-", Number(Fraction(0)), self._output(node.this))
            case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
                only(node, "this", "expression", "typed", "safe")
                operator = _ARITHMETIC[type(node)]
                # mypy reads the values of the table as text, not as the operators that they are.
                return Arithmetic(operator, self._output(node.this), self._output(node.expression))  # type: ignore[arg-type]
            case exp.Round():
                only(node, "this", "decimals")
                digits = (
                    read_number(node.args["decimals"])
                    if node.args.get("decimals") is not None
                    else Fraction(0)
                )
                if digits is None or digits.denominator != 1 or not 0 <= digits <= 9:
                    raise QueryError("query: want round(output, 0 to 9)", code="query_form")
                return Arithmetic("round", self._output(node.this), Number(digits))
            case exp.Filter():
                only(node, "this", "expression")
                only(node.expression, "this")
                if isinstance(node.this, _AGGREGATES):
                    return self._aggregate(node.this, self.scope.condition(node.expression.this, "filter"))
            case _ if isinstance(node, _AGGREGATES):
                return self._aggregate(node, ALWAYS)
            case _:
                pass
        raise QueryError(
            f"query: {describe_construct(node)} is not allowed in an output",
            hint="write keys of GROUP BY, count, sum, avg, min, max, and + - * / round of aggregates",
            code="query_function" if isinstance(node, exp.Func) else "query_shape",
        )

    def _key_of(self, node: exp.Expression) -> KeyOf:
        if isinstance(node, exp.Case) or (
            isinstance(node, exp.Column) and isinstance(self.scope.find(node), Column)
        ):
            key = self._key(node)
            if key in self.keys:
                return KeyOf(self.keys.index(key))
        raise QueryError(
            f"query: {node.name or 'CASE'} is neither grouped nor aggregated", code="query_shape"
        )

    def _aggregate(self, node: exp.Expression, where: Condition) -> Output:
        argument = node.this.unnest() if isinstance(node.this, exp.Expression) else node.this
        if isinstance(node, exp.Count):
            only(node, "this", "big_int")
            return Published(Count(_both(where, self._counted_persons(argument))))
        only(node, "this")
        if isinstance(node, exp.Min | exp.Max):
            return self._extreme(node, argument, where)
        indicator = self.scope.indicator(argument, "filter", otherwise=isinstance(node, exp.Avg))
        if indicator is not None:
            met = Published(Count(_both(where, indicator)))
            return met if isinstance(node, exp.Sum) else Arithmetic("/", met, Published(Count(where)))
        case = case_of(argument)
        if case is not None and case[2] is None:
            where, argument = _both(where, self.scope.condition(case[0], "filter")), case[1].unnest()
        column = self.scope.column(argument, "aggregate")
        if column.scale is None:
            raise QueryError(f"query: {column.label} has no range: it cannot be summed", code="query_use")
        where = _both(where, Not(Missing(column)))
        count = Published(Count(where))
        total: Output = Published(Sum(column, where))
        if column.scale.most == 1:  # two values: persons with each are counted
            high = Published(Count(_both(where, Compare(column, "=", 1))))
            low = Arithmetic("*", Number(column.scale.low), count)
            total = Arithmetic("+", low, Arithmetic("*", Number(column.scale.step), high))
        return total if isinstance(node, exp.Sum) else Arithmetic("/", total, count)

    def _counted_persons(self, argument: exp.Expression) -> Condition:
        """The persons that count(...) counts."""
        if isinstance(argument, exp.Star):
            only(argument)
            return ALWAYS
        distinct = isinstance(argument, exp.Distinct)
        if isinstance(argument, exp.Distinct):
            only(argument, "expressions")
            argument = argument.expressions[0] if len(argument.expressions) == 1 else argument
        if isinstance(argument, exp.Column):
            persons = self.scope.resolve(argument, "aggregate", "filter")
            if isinstance(persons, Present):
                return ALWAYS if persons.source in self.scope.persons.inner else persons
            if not distinct:
                return Not(Missing(persons))
        indicator = None if distinct else self.scope.indicator(argument, "filter", otherwise=False)
        case = case_of(argument)
        if indicator is None or case is None or case[2] is not None:
            raise QueryError(
                "query: want count(*), count(column) or count(DISTINCT privacy unit)",
                hint="count persons that meet a condition: count(*) FILTER (WHERE ...)",
                code="query_form",
            )
        return indicator

    def _extreme(self, node: exp.Expression, argument: exp.Expression, where: Condition) -> Output:
        column = self.scope.column(argument, "extrema")
        where = _both(where, Not(Missing(column)))
        return Published(Extreme("min" if isinstance(node, exp.Min) else "max", column, where))

    def _having(self, node: exp.Expression, outputs: dict[str, Output]) -> Having:
        match node:
            case exp.Paren():
                only(node, "this")
                return self._having(node.this, outputs)
            case exp.Not():
                only(node, "this")
                return Having("not", (self._having(node.this, outputs),))
            case exp.And() | exp.Or():
                only(node, "this", "expression")
                sides = (self._having(node.this, outputs), self._having(node.expression, outputs))
                return Having("and" if isinstance(node, exp.And) else "or", sides)
            case _ if type(node) in _HAVING:
                only(node, "this", "expression")
                operands = tuple(self._operand(each, outputs) for each in (node.this, node.expression))
                return Having(_HAVING[type(node)], operands)  # type: ignore[arg-type]  # a value of _HAVING
            case _:
                pass
        raise QueryError(
            f"query: {describe_construct(node)} is not allowed in HAVING",
            hint="compare outputs with =, <>, <, <=, >, >=; a condition on persons is for WHERE",
            code="query_form",
        )

    def _operand(self, node: exp.Expression, outputs: dict[str, Output]) -> Output:
        if isinstance(node, exp.Column) and node.args.get("table") is None:
            output = outputs.get(name_of(node.this))
            if output is not None and not isinstance(output, KeyOf):
                return output
        return self._output(node)

    def _order(self, names: list[str]) -> tuple[tuple[int, bool], ...]:
        order = self.select.args.get("order")
        places = []
        if order is not None:
            only(order, "expressions")
            for each in order.expressions:
                only(each, "this", "desc")
                places.append((self._position(each.this, names), bool(each.args.get("desc"))))
        return tuple(places)

    def _position(self, node: exp.Expression, names: list[str]) -> int:
        number = read_number(node)
        if number is not None:
            return _position(number, len(names), "ORDER BY")
        if isinstance(node, exp.Column):
            if node.args.get("table") is None and name_of(node.this) in names:
                return names.index(name_of(node.this))
            column = self.scope.find(node)
            for position, written in enumerate(outputs_of(self.select).values()):
                if (
                    column is not None
                    and isinstance(written, exp.Column)
                    and self.scope.find(written) == column
                ):
                    return position
        raise QueryError("query: want ORDER BY to name outputs", code="query_shape")

    def _limit(self) -> int | None:
        limit = self.select.args.get("limit")
        if limit is None:
            return None
        only(limit, "expression")
        number = read_number(limit.expression)
        if number is None or number.denominator != 1 or number < 0:
            raise QueryError("query: want LIMIT to be a whole number", code="query_shape")
        return int(number)


def _position(number: Fraction, outputs: int, clause: str) -> int:
    if number.denominator != 1 or not 1 <= number <= outputs:
        raise QueryError(f"query: {clause} {number}: no such output", code="query_shape")
    return int(number) - 1


def _label(node: exp.Expression | None) -> str | int | None:
    number, text = (read_number(node), read_text(node)) if node is not None else (None, None)
    if number is not None and number.denominator == 1 and abs(number) < 1 << 63:
        return int(number)
    if text is not None or node is None or isinstance(node, exp.Null):
        return text
    raise QueryError("query: want labels of CASE to be literals: strings or whole numbers", code="query_form")


def _both(a: Condition, b: Condition) -> Condition:
    parts = [part for each in (a, b) for part in (each.of if isinstance(each, All) else (each,))]
    return parts[0] if len(parts) == 1 else All(tuple(dict.fromkeys(parts)))
