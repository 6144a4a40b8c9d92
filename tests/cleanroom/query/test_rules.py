"""What leaves, held against a reading of the same question in plain Python that shares no code with ours."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.cleanroom.query.cells import Values
from kluis.cleanroom.query.publishing import _total
from kluis.cleanroom.query.writing import tail
from tests.adversary import rooms
from tests.strategies import examples

Person = dict[str, Any]
Truth = bool | None
REDUCED = "WITH l AS (SELECT id, arg_max(value, day) AS value FROM labs GROUP BY id) "


@dataclass(frozen=True)
class Asked:
    """A condition as SQL, and as Python has it."""

    text: str
    holds: Callable[[Person], Truth]


def _compare(name: str, column: str, sign: str, bound: float) -> Asked:
    def holds(person: Person) -> Truth:
        value = person[name]
        if value is None:
            return None
        return {"<": value < bound, ">=": value >= bound, "=": value == bound}[sign]

    return Asked(f"{column} {sign} {bound}", holds)


def _not(of: Asked) -> Asked:
    def holds(person: Person) -> Truth:
        found = of.holds(person)
        return None if found is None else not found

    return Asked(f"NOT ({of.text})", holds)


def _and(a: Asked, b: Asked) -> Asked:
    def holds(person: Person) -> Truth:
        both = (a.holds(person), b.holds(person))
        return False if False in both else None if None in both else True

    return Asked(f"({a.text} AND {b.text})", holds)


ATOMS = st.one_of(
    st.builds(lambda bound: _compare("age", "p.age", "<", bound), st.sampled_from([35, 50, 60, 97])),
    st.builds(lambda bound: _compare("status", "p.status", "=", bound), st.sampled_from([0, 1])),
    st.builds(lambda bound: _compare("value", "l.value", ">=", bound), st.sampled_from([55, 60])),
)
CONDITIONS = st.one_of(ATOMS, st.builds(_not, ATOMS), st.builds(_and, ATOMS, ATOMS))


def _tables(seed: int, count: int) -> dict[str, pl.DataFrame]:
    pick = random.Random(seed)
    measured = rooms.labs(seed, count).filter(pl.col("test") == "hdl", pl.col("day") == -3)
    share = pick.choice((0.6, 0.97))
    some = [each for each in measured["id"] if pick.random() < share]
    extra = [(9000 + number, "hdl", -3, 60.0) for number in range(30)]
    return {
        "people": rooms.people(seed, count),
        "labs": pl.concat(
            [
                measured.filter(pl.col("id").is_in(some)),
                pl.DataFrame(extra, schema=measured.schema, orient="row"),
            ]
        ),
    }


def _persons(tables: dict[str, pl.DataFrame], *, left: bool) -> list[Person]:
    values = dict(tables["labs"].select("id", "value").iter_rows())
    return [
        {**row, "value": values.get(row["id"])}
        for row in tables["people"].to_dicts()
        if left or row["id"] in values
    ]


ANSWERED: list[int] = []


@settings(max_examples=examples(40), deadline=None)
@given(
    seed=st.integers(1, 10**6),
    count=st.sampled_from([120, 300, 900]),
    k=st.integers(3, 12),
    left=st.booleans(),
    by_sex=st.booleans(),
    where=st.none() | CONDITIONS,
    asked=CONDITIONS,
    other=CONDITIONS,
)
def test_every_number_rests_on_k(
    seed: int,
    count: int,
    k: int,
    left: bool,
    by_sex: bool,
    where: Asked | None,
    asked: Asked,
    other: Asked,
) -> None:
    """Counts are exact; they, their differences and complements hold nobody or k; sums are coarse."""
    tables = _tables(seed, count)
    key = "p.sex, " if by_sex else ""
    text = (
        f"{REDUCED} SELECT {key}count(*) AS n, count(*) FILTER (WHERE {asked.text}) AS a, "
        f"count(*) FILTER (WHERE {other.text}) AS b, sum(p.status) AS dead, count(l.value) AS m, "
        f"sum(l.value) FILTER (WHERE {asked.text}) AS s "
        f"FROM people p {'LEFT' if left else ''} JOIN l ON p.id = l.id"
        + (f" WHERE {where.text}" if where else "")
        + (" GROUP BY p.sex" if by_sex else "")
    )
    everyone = _persons(tables, left=left)
    rows = rooms.computed(text, tables, k)
    ANSWERED.append(len(rows))
    for row in rows:
        group = [each for each in everyone if not by_sex or each["sex"] == row["sex"]]
        counted = {each["id"] for each in group if where is None or where.holds(each) is True}
        sets = {
            "n": counted,
            "a": {each["id"] for each in group if asked.holds(each) is True} & counted,
            "b": {each["id"] for each in group if other.holds(each) is True} & counted,
            "dead": {each["id"] for each in group if each["status"] == 1} & counted,
            "m": {each["id"] for each in group if each["value"] is not None} & counted,
        }
        assert {name: row[name] for name in sets} == {name: len(of) for name, of in sets.items()}
        for signs in itertools.product((True, False), repeat=len(sets)):
            part = {each["id"] for each in group}
            for sign, of in zip(signs, sets.values(), strict=True):
                part = part & of if sign else part - of
            assert not 0 < len(part) < k, (text, signs, len(part))
        values = [each["value"] for each in group if each["id"] in sets["a"] & sets["m"]]
        assert (row["s"] is None) == (not values)
        if values:  # a whole number of spans, and the mean within the range that the values have
            spans = row["s"] / 250
            assert abs(spans - round(spans)) < 1e-9
            assert (
                min(values) - 250 / len(values) <= row["s"] / len(values) <= max(values) + 250 / len(values)
            )


def test_some_of_them_were_answered() -> None:
    """The property above was not held by hiding everything."""
    assert sum(map(bool, ANSWERED)) >= len(ANSWERED) / 8


@settings(max_examples=examples(12), deadline=None)
@given(seed=st.integers(1, 10**6), who=st.integers(1, 120), value=st.sampled_from([0.0, 55.0, 250.0, 1e9]))
def test_one_person_weighs_at_most_two_spans(seed: int, who: int, value: float) -> None:
    """Whatever one person's value becomes, a sum moves by no more than two spans, and no count moves."""
    tables = _tables(seed, 120)
    text = (
        f"{REDUCED} SELECT p.sex, count(*) AS n, sum(l.value) AS s "
        "FROM people p JOIN l ON p.id = l.id GROUP BY p.sex"
    )
    changed = tables["labs"].with_columns(value=pl.when(pl.col("id") == who).then(value).otherwise("value"))
    before, after = rooms.computed(text, tables), rooms.computed(text, {**tables, "labs": changed})
    assert [row["n"] for row in before] == [row["n"] for row in after]
    for a, b in zip(before, after, strict=True):
        assert abs(float(str(a["s"])) - float(str(b["s"]))) <= 2 * 250


def test_the_most_that_one_value_weighs() -> None:
    """One of 0 to 1 becomes the other, whatever the others are: two spans at most, three if k is 3."""

    def spans(values: list[int], k: int) -> int:
        ends, ordered = tail(k), sorted(values)
        return round(_total(Values(sum(values), ordered[-ends:], ordered[:ends]), len(values)))

    most = {
        k: max(
            abs(
                spans([1] * high + [0] * (count - high), k)
                - spans([1] * (high + 1) + [0] * (count - high - 1), k)
            )
            for count in range(k, 3 * k)
            for high in range(count)
        )
        for k in range(3, 30)
    }
    assert most.pop(3) == 3
    assert set(most.values()) == {2}
