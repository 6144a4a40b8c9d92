"""A co-owner's Parquet file states that it is sorted, and is not: what is computed must not depend on it."""

from __future__ import annotations

import io

import polars as pl
import pyarrow.parquet as pq
import pytest

from kluis.cleanroom.data import datasets
from kluis.errors import PolicyError
from tests.adversary import rooms

TARGET, ALIVE, DEAD = 100, 101, 102


def stated(table: pl.DataFrame) -> pl.DataFrame:
    """The table as polars reads it from a file whose metadata states that its ids ascend."""
    out = io.BytesIO()
    pq.write_table(table.to_arrow(), out, sorting_columns=[pq.SortingColumn(0)])
    return pl.read_parquet(io.BytesIO(out.getvalue()))


def repeated() -> pl.DataFrame:
    """Three persons, ten times each, no two rows of one next to each other; then sixty others once."""
    ids = [TARGET, ALIVE, DEAD] * 10 + list(range(200, 260))
    marks = [1] * 30 + [0] * 60
    return pl.DataFrame({"id": ids, "code": [0] * 90, "mark": marks})


def test_rows_of_one_person_are_counted() -> None:
    """A file with ten rows of one person, under terms of one, is not computed on, whatever it states."""
    table = stated(repeated())
    terms = rooms.described("codes", repeated().unique("id"), rooms.CODES).terms
    assert terms.rows_per_person == 1
    with pytest.raises(PolicyError) as caught:
        datasets.check_table(table, terms, "codes")
    assert caught.value.message == "data set codes: want at most 1 rows a person, got more"


@pytest.mark.parametrize("status", [0, 1])
def test_one_person_in_the_place_of_ten(status: int) -> None:
    """Ten rows of one person, and ten each of two whose status is known, would show that person's status."""
    known = {TARGET: status, ALIVE: 0, DEAD: 1}
    people = rooms.people().with_columns(
        status=pl.col("id").replace_strict(known, default=pl.col("id") % 2, return_dtype=pl.Int64)
    )
    text = "SELECT count(*) AS n, sum(p.status) AS dead FROM people p JOIN codes c ON p.id = c.id"
    text += " WHERE c.mark = 1"
    sources = {"people": people, "codes": repeated().unique("id")}
    described = rooms.inputs(sources)
    asked = rooms.asked(text, tuple(sources))
    assert rooms.answered(asked, described, {"people": people, "codes": stated(repeated())}) == []
