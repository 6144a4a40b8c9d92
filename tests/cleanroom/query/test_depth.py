"""Long queries: whatever an author writes, the answer is a tree or a QueryError."""

from __future__ import annotations

import polars as pl
import pytest

from kluis.cleanroom import query
from kluis.cleanroom.query import QueryError
from tests.cleanroom import samples

PEOPLE = samples.dataset("people", "clinic", samples.people(), samples.PEOPLE_USES, bytes(32))[0]


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT count(*) AS n FROM people WHERE {' AND '.join(['died = 1'] * 1200)}",
        f"SELECT count(*) AS n FROM people WHERE {' OR '.join(['died = 1'] * 1200)}",
        f"SELECT count(*){' + 1' * 1600} AS n FROM people",
        f"SELECT count(*) AS n FROM people HAVING {' AND '.join(['n > 1'] * 1200)}",
        f"SELECT count(*) AS n FROM people WHERE {'NOT ' * 400} died = 1",
        f"SELECT {'(' * 90}count(*){')' * 90} AS n FROM people",
    ],
    ids=["and", "or", "plus", "having", "not", "parentheses"],
)
def test_a_long_query_is_read_or_refused(text: str) -> None:
    try:
        asked = query.read_groups(text, (PEOPLE,))
    except QueryError:
        return
    query.write_cells(asked, samples.K)


@pytest.mark.parametrize(
    ("begin", "end"), [("DECIMAL(", ")"), ("ARRAY[", "]"), ("STRUCT(a ", ")"), ("died::INT[", "]")]
)
def test_nested_types_are_refused_before_they_are_parsed(begin: str, end: str) -> None:
    """The parser reads the inside of a type twice, and so the innermost of sixty 2^60 times."""
    with pytest.raises(QueryError) as caught:
        query.read_groups(f"SELECT {begin * 60}1{end * 60} AS n FROM people", (PEOPLE,))
    assert caught.value.message.startswith("query: ")
    assert caught.value.message.endswith(" with arguments is not allowed")


def test_columns_with_the_name_of_a_type() -> None:
    """They are compared, listed and grouped as others are."""
    table = pl.DataFrame({"id": range(20), "date": ["a", "b"] * 10, "name": [1, 2] * 10})
    described, _ = samples.dataset(
        "people",
        "clinic",
        table,
        {"id": ["join"], "date": ["filter", "group"], "name": ["filter"]},
        bytes(32),
    )
    text = "SELECT date, count(*) AS n FROM people WHERE date IN ('a', 'b') AND (name < 3) AND date < 'c'"
    assert query.read_groups(f"{text} GROUP BY date", (described,)).names == ("date", "n")


@pytest.mark.parametrize("order", ["n NULLS FIRST", "n DESC NULLS FIRST"])
def test_an_order_that_is_not_kept(order: str) -> None:
    """NULL comes last, whatever an author writes: with LIMIT, other rows would leave than were agreed."""
    text = f"SELECT age, count(*) AS n FROM people GROUP BY age ORDER BY {order} LIMIT 2"
    with pytest.raises(QueryError, match=r"with nulls_first is not allowed$"):
        query.read_groups(text, (PEOPLE,))
    assert query.read_groups(text.replace("NULLS FIRST", "NULLS LAST"), (PEOPLE,)).limit == 2
