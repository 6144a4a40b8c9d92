"""Write a tree as DuckDB SQL: every name is generated, every literal is a value of the tree.

The query returns cells: the number of persons of a group with the same answer to every comparison of the
query. Nothing of it is published directly; ``publishing`` computes what is.
"""

from __future__ import annotations

import datetime

from kluis.cleanroom.data.values import UNIT
from kluis.cleanroom.query.row_classes import RowClass, row_classes
from kluis.cleanroom.query.tree import (
    All,
    Any,
    Column,
    Compare,
    Comparison,
    Condition,
    Groups,
    Key,
    Missing,
    Not,
    OneOf,
    PerPerson,
    Persons,
    PersonTable,
    Present,
    Value,
)


def tail(k: int) -> int:
    """The number of values at either end of a cell that do not count in its sum."""
    return max(1, k // 4)


def write_cells(groups: Groups, k: int) -> str:
    """Write the SQL that counts a query's cells.

    A row contains two booleans for each source: whether its data set has the person, and whether the person
    has a row that meets its condition. Then follow a number or NULL for each row class, the keys, one boolean
    or NULL for each comparison, and the number of persons. For each of ``groups.values`` there are its sum
    and its ``tail(k)`` largest and smallest.
    """
    classes = row_classes(groups)
    split = _split(groups.persons, groups.keys, groups.atoms, classes)
    counted = ["count(*)"]
    for each in groups.values:
        value, ends = _column(each), tail(k)
        counted += [f"sum({value})", f"max({value}, {ends})", f"min({value}, {ends})"]
    by = ", ".join(str(number + 1) for number in range(len(split)))
    return f"{_from(groups.persons, classes, 'SELECT ' + ', '.join(split + counted))} GROUP BY {by}"


def write_person_table(table: PersonTable) -> str:
    """Write the SQL of a model's table.

    A row contains the privacy unit, the outcome as 0 or 1, the predictors, and the number of rows in its
    cell.
    """
    unit = f"s{min(table.persons.inner)}.{UNIT}"
    outcome = f"CASE WHEN {_condition(table.condition)} THEN 1 ELSE 0 END"
    classes = row_classes(table)
    cell = ", ".join(_split(table.persons, (), table.atoms, classes))
    columns = [unit, outcome, *(_column(each) for _, each in table.predictors)]
    columns.append(f"count(*) OVER (PARTITION BY {cell})")
    columns = [f"{each} AS o{place}" for place, each in enumerate(columns)]
    inside = [Present(number) for number in sorted(table.persons.inner)]
    where = _condition(All((*inside, table.persons.where)))
    return f"{_from(table.persons, classes, 'SELECT ' + ', '.join(columns))} WHERE {where}"


def _split(
    persons: Persons, keys: tuple[Key, ...], atoms: tuple[Comparison, ...], classes: tuple[RowClass, ...]
) -> list[str]:
    """The expressions on which the persons of a cell agree."""
    numbers = range(len(persons.sources))
    split = [f"s{number}.{UNIT} IS NOT NULL" for number in numbers]
    split += [_condition(Present(number)) for number in numbers]
    split += [f"s{each.source}.m{place}" for place, each in enumerate(classes)]
    return split + [_key(each) for each in keys] + [_condition(each) for each in atoms]


def _from(persons: Persons, classes: tuple[RowClass, ...], select: str) -> str:
    """Every person of any source, once, with its row of each source."""
    names = [f"s{number}" for number in range(len(persons.sources))]
    tables = [f"{name} AS ({_source(persons, n, classes)})" for n, name in enumerate(names)]
    everyone = " UNION ".join(f"SELECT {UNIT} FROM {name}" for name in names)  # noqa: S608  # generated names
    joins = "".join(f" LEFT JOIN {name} ON {name}.{UNIT} = p.{UNIT}" for name in names)
    return f"WITH {', '.join(tables)}, p AS ({everyone}) {select} FROM p{joins}"


def _source(persons: Persons, number: int, classes: tuple[RowClass, ...]) -> str:
    """A source: every person of its data set, ``r`` if a row meets its condition, its row classes."""
    source = persons.sources[number]
    if source.reduced is None:
        return f"SELECT *, true AS r FROM {source.table}"  # noqa: S608  # a generated name
    columns = [UNIT, f"bool_or({_condition(source.where)}) IS TRUE AS r"]
    columns += [f"{_row_class(each)} AS m{n}" for n, each in enumerate(classes) if each.source == number]
    columns += [f"{_write_reduced(each, source.where)} AS v{n}" for n, each in enumerate(source.reduced)]
    return f"SELECT {', '.join(columns)} FROM {source.table} GROUP BY {UNIT}"  # noqa: S608  # generated names


def _row_class(of: RowClass) -> str:
    met = " + ".join(
        f"CASE WHEN {_condition(each)} THEN {1 << place} ELSE 0 END" for place, each in enumerate(of.literals)
    )
    return f"bit_or(([{', '.join(map(str, of.subsets()))}]::UBIGINT[])[1 + {met}])"


def _write_reduced(value: PerPerson, rows: Condition) -> str:
    condition = _condition(All((rows, value.where)))
    where = f"FILTER (WHERE {condition})"
    if value.column is None:
        return f"CASE WHEN bool_or({_condition(rows)}) THEN count(*) {where} END"
    column = _column(value.column)
    if value.by is not None:
        function, by = ("arg_max" if value.kind == "last" else "arg_min"), _column(value.by)
        known = f"{column} IS NOT NULL AND {by} IS NOT NULL"
        return f"{function}({column}, row({by}, {column})) FILTER (WHERE {known} AND {condition})"
    if value.kind == "avg":
        total, count = f"sum({column}) {where}", f"count({column}) {where}"
        return f"((2 * {total} + {count}) // (2 * {count}))::BIGINT"
    return f"{value.kind}({column}) {where}"


def _key(key: Key) -> str:
    if isinstance(key, Column):
        return _column(key)
    arms = " ".join(f"WHEN {_condition(condition)} THEN {label}" for condition, label in key.cases)
    return f"CASE {arms} ELSE {key.other} END"


def _column(column: Column) -> str:
    return f"{column.table}.{column.name}"


def _condition(condition: Condition) -> str:
    match condition:
        case All(of):
            return "(" + " AND ".join(_condition(each) for each in of) + ")" if of else "true"
        case Any(of):
            return "(" + " OR ".join(_condition(each) for each in of) + ")"
        case Not(of):
            return f"(NOT {_condition(of)})"
        case Present(number):
            return f"(s{number}.r IS TRUE)"
        case Missing(column):
            return f"({_column(column)} IS NULL)"
        case OneOf(column, values):
            return f"({_column(column)} IN ({', '.join(map(_literal, values))}))"
        case Compare(column, operator, value):
            return f"({_column(column)} {operator} {_literal(value)})"


def _literal(value: Value) -> str:
    match value:
        case str():
            return "'" + value.replace("'", "''") + "'"
        case datetime.datetime():
            return f"TIMESTAMP '{value:%Y-%m-%d %H:%M:%S.%f}'"
        case datetime.date():
            return f"DATE '{value.isoformat()}'"
        case float():
            return f"{value!r}::DOUBLE"
        case int():
            return f"{value}::BIGINT" if value >= 0 else f"({value})::BIGINT"
