"""The output rules: what leaves rests on k persons, and nothing that could single one out is said."""

from __future__ import annotations

import polars as pl
import pytest

from kluis.cleanroom import query
from kluis.cleanroom.agreement import Dataset
from kluis.cleanroom.engine import Engine
from kluis.cleanroom.query.grammar import QueryError
from tests.cleanroom import samples

KEY = bytes(32)


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
        "SELECT p.age, count(*) AS n FROM people p JOIN labs a ON p.id = a.id JOIN labs b ON p.id = b.id "
        "WHERE p.age < 32 GROUP BY p.age"
    )
    assert rows(text, 4)[0][1] == 16
    assert rows(text, 5) == []


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
