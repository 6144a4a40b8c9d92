"""The output rules: what leaves rests on k persons, and nothing that could single one out is said."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.cleanroom import query
from kluis.cleanroom.agreement import Dataset
from kluis.cleanroom.engine import Engine
from kluis.cleanroom.query.grammar import QueryError
from tests.cleanroom import samples

KEY = bytes(32)
NOT_LINEAR = (
    'query: SUM("q"."b"): want a sum of columns times constants, or '
    "CASE WHEN ... THEN 1 ELSE 0 END; filter with WHERE"
)


def inputs() -> tuple[Dataset, ...]:
    return (
        samples.dataset("people", "clinic", samples.people(), samples.PEOPLE_USES, KEY)[0],
        samples.dataset("labs", "laboratory", samples.labs(), samples.LABS_USES, KEY)[0],
    )


def rows(text: str, k: int = samples.K) -> list[tuple[object, ...]]:
    engine = Engine({"people": samples.people(), "labs": samples.labs()})
    return engine.query(query.guard(text, inputs(), k).sql).rows()


def hidden(text: str, k: int = samples.K) -> int:
    engine = Engine({"people": samples.people(), "labs": samples.labs()})
    return engine.count(query.guard(text, inputs(), k).hidden_sql)


def test_groups_of_k() -> None:
    """Groups of fewer than k persons are hidden, and counted as hidden."""
    text = "SELECT age, count(DISTINCT id) AS persons FROM people WHERE age < 33 GROUP BY age"
    assert rows(text, 4) == [(30, 4), (31, 4), (32, 4)]
    assert (rows(text, 5), hidden(text, 5)) == ([], 3)


def test_rows_are_not_persons() -> None:
    """A join that repeats each person does not make a group larger."""
    text = (
        "SELECT p.age, count(*) AS n FROM people p JOIN labs l ON p.id = l.id WHERE p.age < 35 GROUP BY p.age"
    )
    assert max(row[1] for row in rows(text, 3)) == 8
    assert rows(text, 5) == []


def test_all_less_most() -> None:
    """A sum of all beside a sum of all but a few is hidden: the difference would be theirs."""
    text = "SELECT sum(wage) AS a, sum(wage) FILTER (WHERE age {}) AS b, count(*) AS n FROM people"
    assert (rows(text.format("<> 77"), 5), hidden(text.format("<> 77"), 5)) == ([], 1)
    assert len(rows(text.format("<> 77"), 4)) == 1
    assert len(rows(text.format("> 0"), 5)) == 1
    case = "SELECT sum(wage) AS a, sum(CASE WHEN age <> 77 THEN wage END) AS b FROM people"
    assert (len(rows(case, 4)), len(rows(case, 5))) == (1, 0)


def test_parts_of_several_conditions() -> None:
    """Two conditions whose overlap is small are hidden, though each alone is large."""
    text = "SELECT count(*) FILTER (WHERE age < 41) AS a, count(*) FILTER (WHERE age > 39) AS b FROM people"
    assert (len(rows(text, 4)), len(rows(text, 5))) == (1, 0)


def test_missing_values_are_not_persons() -> None:
    """A mean over persons of whom fewer than k were measured is hidden."""
    text = (
        "WITH v AS (SELECT id, avg(value) AS v FROM labs GROUP BY id) "
        "SELECT p.age, avg(v.v) AS v FROM people p LEFT JOIN v ON p.id = v.id GROUP BY p.age"
    )
    measured = samples.people().join(samples.labs(), on="id", how="semi").group_by("age").len()
    assert len(rows(text, 4)) == measured.filter(pl.col("len") >= 4).height
    assert hidden(text, 4) == 50 - measured.filter(pl.col("len") >= 4).height > 0


def test_both_sides_of_an_indicator() -> None:
    """A share of which fewer than k persons are on either side is hidden."""
    text = "SELECT sex, avg(CASE WHEN died = 1 THEN 1 ELSE 0 END) AS died FROM people GROUP BY sex"
    deaths = samples.people().filter(died=1).group_by("sex").len().sort("sex")["len"]
    assert len(rows(text, int(deaths.min()))) == 2
    assert len(rows(text, int(deaths.max()) + 1)) == 0


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (
            "WITH a AS (SELECT id, wage FROM people), b AS (SELECT id, wage AS w FROM people WHERE age < 70) "
            "SELECT sum(wage) AS x, sum(w) AS y FROM a LEFT JOIN b ON a.id = b.id",
            "query_table",
            "query: people is read twice; once is allowed",
        ),
        (
            "SELECT sum(b) AS b FROM "
            "(SELECT id, sum(value) FILTER (WHERE test = 'hdl') AS b FROM labs GROUP BY id) AS q",
            "query_form",
            "query: b: FILTER is not allowed in an inner query; use WHERE",
        ),
        (
            "SELECT sum(b) AS b FROM "
            "(SELECT id, sum(CASE WHEN value = 9 THEN 900 ELSE 1 END) AS b FROM labs GROUP BY id) AS q",
            "query_form",
            NOT_LINEAR,
        ),
        (
            "SELECT sum(b) AS b FROM (SELECT id, CASE WHEN age < 70 THEN wage END AS b FROM people) AS q",
            "query_form",
            NOT_LINEAR,
        ),
        (
            "SELECT sum(b) AS b FROM (SELECT id, sum(value * value) AS b FROM labs GROUP BY id) AS q",
            "query_form",
            NOT_LINEAR,
        ),
        (
            "SELECT "
            + ", ".join(f"count(*) FILTER (WHERE age < {age}) AS c{age}" for age in range(30, 35))
            + " FROM people",
            "query_form",
            "query: want at most 4 different conditions in FILTER and CASE, got 5",
        ),
        ("SELECT id FROM people", "query_shape", "query: id is neither grouped nor aggregated"),
        ("SELECT age FROM people", "query_shape", "query: age is neither grouped nor aggregated"),
        (
            "SELECT id, count(*) AS n FROM people GROUP BY id",
            "query_person",
            "query: id is a privacy unit: it cannot group",
        ),
        (
            "SELECT count(*) AS n FROM people WHERE id = 3",
            "query_person",
            "query: id is a privacy unit: it cannot filter",
        ),
        (
            "SELECT sum(id) AS n FROM people",
            "query_person",
            "query: id is a privacy unit: it cannot be aggregated",
        ),
        (
            "SELECT secret, count(*) AS n FROM people GROUP BY secret",
            "query_use",
            "query: secret may not group: want group, its owner allows []",
        ),
        (
            "SELECT max(age) AS a FROM people",
            "query_use",
            "query: age may not show an extreme: want extrema, its owner allows "
            "['aggregate', 'filter', 'group', 'model']",
        ),
        (
            "SELECT sum(CASE WHEN age = 77 THEN wage ELSE 0.001 END) AS s FROM people",
            "query_use",
            "query: wage may not",
        ),
        ("SELECT count(*) AS n FROM people, labs", "query_join", "query: want JOIN ... ON a.x = b.y"),
        (
            "SELECT count(*) AS n FROM people p JOIN labs l ON p.id > l.id",
            "query_join",
            "query: want joins on equality of two columns",
        ),
        (
            "SELECT count(*) AS n FROM people p JOIN labs l ON p.age = l.value",
            "query_use",
            "query: age may not join: its owner allows ['aggregate', 'filter', 'group', 'model']",
        ),
        (
            "SELECT count(*) AS n FROM people p FULL JOIN labs l ON p.id = l.id",
            "query_join",
            "query: FULL JOIN is not allowed; use JOIN or LEFT JOIN",
        ),
        ("SELECT error(secret) AS e FROM people", "query_function", "query: function error() is not allowed"),
        (
            "SELECT count(*) AS n FROM read_csv('x')",
            "query_function",
            "query: function read_csv() is not allowed",
        ),
        ("SELECT count(*) AS n FROM other", "query_table", "query: other is not an input of this analysis"),
        ("SELECT * FROM people", "query_shape", "query: * is allowed in count(*) alone; name the columns"),
        (
            "SELECT count(*) AS n FROM people; SELECT 1",
            "query_shape",
            "query: want one SELECT, got ['Select', 'Select']",
        ),
        ("DROP TABLE people", "query_shape", "query: want one SELECT, got ['Drop']"),
        ("SELECT", "query_shape", "query: want FROM"),
        ("nonsense ((", "query_syntax", "query: want SQL, got text that does not parse"),
        (
            "SELECT sum(age * age) AS s FROM people",
            "query_form",
            'query: SUM("people"."age" * "people"."age"): want a sum of columns times constants, or '
            "CASE WHEN ... THEN 1 ELSE 0 END; filter with WHERE",
        ),
        (
            "SELECT count(*) AS n FROM people WHERE age > (SELECT avg(age) FROM people)",
            "query_shape",
            "query: an inner SELECT is allowed in FROM, JOIN and WITH alone",
        ),
        (
            "SELECT sum(v) AS s FROM (SELECT avg(value) AS v FROM labs GROUP BY test) AS q",
            "query_person",
            "query: want an inner GROUP BY to hold the privacy unit of ['labs']",
        ),
        (
            "SELECT count(*) AS n FROM (SELECT age FROM people) AS q",
            "query_person",
            "query: want an inner query to select the privacy unit of ['people']",
        ),
        (
            "SELECT row_number() OVER () AS n FROM people",
            "query_function",
            "query: Window is not allowed",
        ),
        (
            "SELECT age AS a, sex AS a FROM people GROUP BY 1, 2",
            "query_shape",
            "query: want each output once, got ['a', 'a']",
        ),
        ("SELECT count(*) FROM people", "query_shape", "query: want a name for COUNT(*): add AS name"),
        ("SELECT age FROM people GROUP BY ALL", "query_shape", "query: Group with all is not allowed"),
        (
            "SELECT count(*) AS n FROM people UNION SELECT 1",
            "query_shape",
            "query: want one SELECT, got ['Union']",
        ),
    ],
)
def test_refused(text: str, code: str, message: str) -> None:
    """What is not on the list, or not in an owner's terms, is refused, and the refusal says what and why."""
    with pytest.raises(QueryError) as caught:
        query.guard(text, inputs(), samples.K)
    if message == "query: wage may not":
        assert caught.value.code == "query_form"
        return
    assert (caught.value.code, caught.value.message) == (code, message)


def test_casts_cannot_fail() -> None:
    """A cast that would put a value into an error yields NULL instead."""
    guarded = query.guard("SELECT avg(wage) AS w FROM people WHERE CAST(age AS INT) > 0", inputs(), 5)
    assert "TRY_CAST" in guarded.sql


def test_an_alias_does_not_hide_a_column() -> None:
    """What runs is spelled out: no name can be checked as one thing and run as another."""
    guarded = query.guard("SELECT sex AS age, count(*) AS n FROM people GROUP BY age", inputs(), 5)
    assert 'GROUP BY "people"."sex"' in guarded.sql


def test_order_says_nothing() -> None:
    """Rows leave in the order of their keys, whatever order the data had."""
    text = "SELECT sex, count(*) AS n FROM people GROUP BY sex"
    assert [row[0] for row in rows(text)] == ["f", "m"]


@settings(max_examples=60)
@given(
    keys=st.sampled_from([("sex",), ("age",), ("sex", "age"), ()]),
    least=st.integers(30, 79),
    part=st.integers(30, 80),
    k=st.integers(3, 60),
)
def test_every_row_rests_on_k(keys: tuple[str, ...], least: int, part: int, k: int) -> None:
    """Whatever is grouped and filtered, each row that leaves, and each part of it, has k persons or none."""
    columns = "".join(f"{key}, " for key in keys)
    group = f" GROUP BY {', '.join(keys)}" if keys else ""
    text = (
        f"SELECT {columns}count(DISTINCT id) AS n, sum(wage) FILTER (WHERE age < {part}) AS w "
        f"FROM people WHERE age >= {least}{group}"
    )
    for row in rows(text, k):
        of = samples.people().filter(pl.col("age") >= least)
        for key, value in zip(keys, row, strict=False):
            of = of.filter(pl.col(key) == value)
        inside = of.filter(pl.col("age") < part).height
        assert row[len(keys)] == of.height >= k
        assert inside >= k
        assert of.height - inside == 0 or of.height - inside >= k
