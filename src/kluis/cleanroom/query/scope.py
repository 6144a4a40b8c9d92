"""Parse the sources of the outer SELECT into persons: WITH, FROM, JOIN and WHERE."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.agreement.terms import Use
from kluis.cleanroom.query.conditions import read_condition
from kluis.cleanroom.query.relations import Relation, base, inner_query, want
from kluis.cleanroom.query.syntax import alias_of, case_of, describe_construct, name_of, only, read_number
from kluis.cleanroom.query.tree import ALWAYS, Column, Condition, Persons, Present, QueryError


class Scope:
    """The sources of one SELECT, each data set at most once.

    Raises:
        QueryError: something that ``tree`` cannot express, or that an owner does not allow.
    """

    def __init__(self, select: exp.Select, datasets: tuple[Dataset, ...]) -> None:
        self._known = {each.id.lower(): base(number, each) for number, each in enumerate(datasets)}
        self._names: dict[str, int] = {}
        self._relations: list[Relation] = []
        self._inner: set[int] = set()
        self._read_with(select.args.get("with_"))
        self._read_from(select)
        where = select.args.get("where")
        condition: Condition = ALWAYS
        if where is not None:
            only(where, "this")
            condition = self.condition(where.this, "filter")
        sources = tuple(each.source for each in self._relations)
        self.persons = Persons(sources, frozenset(self._inner), condition)

    def condition(self, node: exp.Expression, *uses: Use) -> Condition:
        """Read a condition whose columns allow one of the uses.

        Raises:
            QueryError: it is not a condition, or a column does not allow it.
        """
        return read_condition(node, lambda column: self.resolve(column, *uses))

    def indicator(self, node: exp.Expression, use: Use, *, otherwise: bool) -> Condition | None:
        """Read CASE WHEN condition THEN 1 ELSE 0 END.

        Args:
            node: as parsed.
            use: that the condition's columns must allow.
            otherwise: whether ELSE 0 is required.

        Returns:
            The condition; None if it is something else.

        Raises:
            QueryError: the condition is not one, or a column does not allow it.
        """
        case = case_of(node)
        if case is None or read_number(case[1]) != 1:
            return None
        if otherwise if case[2] is None else read_number(case[2]) != 0:
            return None
        return self.condition(case[0], use)

    def column(self, node: exp.Expression | None, *uses: Use) -> Column:
        """Find a bare column that allows one of the uses.

        Raises:
            QueryError: it is something else, or does not allow it.
        """
        if not isinstance(node, exp.Column):
            raise QueryError(
                f"query: {describe_construct(node)} is not allowed here",
                hint="name a bare column",
                code="query_form",
            )
        resolved = self.resolve(node, *uses)
        if isinstance(resolved, Present):
            raise QueryError(
                f"query: {node.name} is a privacy unit: it joins, and count(DISTINCT {node.name}) counts it",
                code="query_person",
            )
        return resolved

    def resolve(self, node: exp.Column, *uses: Use) -> Column | Present:
        """Find a column that allows one of the uses, or the source of a privacy unit.

        Raises:
            QueryError: no column or several have this name, or its owner does not allow it.
        """
        column = self.find(node)
        if column is None:
            raise QueryError(f"query: column {node.name} is not here", code="query_column")
        if isinstance(column, Column):
            want(column, *uses)
        return column

    def find(self, node: exp.Column) -> Column | Present | None:
        """The meaning of a name; None if nothing has it.

        Raises:
            QueryError: more than one has it.
        """
        only(node, "this", "table")
        name = name_of(node.this)
        alias = name_of(node.args["table"]) if node.args.get("table") is not None else ""
        candidates = list[Column | Present]()
        for each, number in self._names.items():
            relation = self._relations[number]
            if alias in ("", each) and name in relation.units:
                candidates.append(Present(number))
            elif alias in ("", each) and name in relation.columns:
                candidates.append(replace(relation.columns[name], table=f"s{number}"))
        if len(candidates) > 1:
            raise QueryError(
                f"query: column {node.name} is in several tables; qualify it", code="query_column"
            )
        return candidates[0] if candidates else None

    def _read_with(self, with_: exp.Expression | None) -> None:
        if with_ is None:
            return
        only(with_, "expressions")
        for cte in with_.expressions:
            only(cte, "this", "alias")
            name = alias_of(cte)
            if name in self._known:
                raise QueryError(f"query: want WITH {name} under a new name", code="query_table")
            self._known[name] = inner_query(cte.this, self._known)

    def _read_from(self, select: exp.Select) -> None:
        from_ = select.args.get("from_")
        if from_ is None:
            raise QueryError("query: want FROM", code="query_shape")
        only(from_, "this")
        self._inner.add(self._add(from_.this))
        for join in select.args.get("joins") or []:
            only(join, "this", "side", "kind", "on")
            side, kind = (join.side or "").upper(), (join.kind or "").upper()
            on = join.args.get("on")
            if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER") or on is None:
                words = " ".join(filter(None, (side, kind, "JOIN" if on is not None else "JOIN without ON")))
                raise QueryError(
                    f"query: {words} is not allowed",
                    hint="write JOIN or LEFT JOIN ... ON a.unit = b.unit",
                    code="query_join",
                )
            number = self._add(join.this)
            self._check_on(on.unnest(), number)
            if not side:
                self._inner.add(number)

    def _check_on(self, on: exp.Expression, number: int) -> None:
        """Check that the privacy unit of the new source equals that of a source that contains every
        person.
        """
        sides = [each.unnest() for each in (on.this, on.expression)] if isinstance(on, exp.EQ) else []
        units = [self.find(each) for each in sides if isinstance(each, exp.Column)]
        numbers = [each.source for each in units if isinstance(each, Present)]
        if len(numbers) != 2 or number not in numbers or not set(numbers) & self._inner:
            raise QueryError(
                "query: want JOIN ... ON the privacy units of both sides, neither LEFT JOINed before",
                hint="write ON a.unit = b.unit, and other conditions in WHERE",
                code="query_join",
            )
        relations = [self._relations[each] for each in numbers]
        for each in relations:
            if not each.joins:
                raise QueryError(
                    f"query: the privacy unit of {each.source.dataset} may not join", code="query_use"
                )
        types = sorted(each.source.unit_type for each in relations)
        if types[0] != types[1]:
            raise QueryError(
                f"query: want privacy units of one type in a join, got {types}", code="query_join"
            )

    def _add(self, node: exp.Expression) -> int:
        if isinstance(node, exp.Subquery):
            only(node, "this", "alias")
            name, relation = alias_of(node), inner_query(node.this, self._known)
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            only(node, "this", "alias")
            table = name_of(node.this)
            if table not in self._known:
                raise QueryError(f"query: {table} is not an input of this analysis", code="query_table")
            name = alias_of(node) if node.args.get("alias") is not None else table
            relation = self._known[table]
        else:
            raise QueryError(f"query: {describe_construct(node)} is not allowed in FROM", code="query_table")
        dataset = relation.source.dataset
        if relation.rows != 1:
            raise QueryError(
                f"query: {dataset} may hold several rows a person",
                hint="reduce it: WITH t AS (SELECT unit, arg_max(x, day) AS x FROM ... GROUP BY unit)",
                code="query_person",
            )
        if name in self._names:
            raise QueryError(f"query: want each table name once, got {name} twice", code="query_table")
        if any(each.source.dataset == dataset for each in self._relations):
            raise QueryError(f"query: {dataset} is read twice; once is allowed", code="query_table")
        self._names[name] = len(self._relations)
        self._relations.append(relation)
        return self._names[name]
