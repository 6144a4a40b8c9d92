"""One person's time is beyond what the engine or Python can express: it is missing, and fails no query."""

from __future__ import annotations

import datetime

import polars as pl
import pytest

from kluis.cleanroom.agreement.terms import Use
from tests.adversary import rooms

NOON = 1_000_000_000_001  # milliseconds
SEEN: list[Use] = ["filter", "group"]


def answered(text: str, people: pl.DataFrame) -> list[dict[str, object]]:
    uses = {**rooms.PEOPLE, "seen": SEEN} if "seen" in people.columns else rooms.PEOPLE
    described = rooms.described("people", people, uses)
    return rooms.answered(rooms.asked(text, ("people",)), (described,), {"people": people})


def seen(value: int, persons: int) -> pl.DataFrame:
    """People of whom some were seen at another time than the others."""
    return rooms.people().with_columns(
        seen=pl.when(pl.col("id") <= persons)
        .then(pl.lit(value, dtype=pl.Int64))
        .otherwise(pl.lit(NOON))
        .cast(pl.Datetime("ms"))
    )


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63) + 1, 253_402_300_800_000])
def test_one_time_that_does_not_fit(value: int) -> None:
    """Whether somebody has such a time decided whether any query of the data set had figures."""
    assert answered("SELECT count(*) AS n FROM people", seen(value, 1)) == [{"n": 400}]


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63) + 1, 253_402_300_800_000])
def test_a_group_of_times_that_do_not_fit(value: int) -> None:
    """Those with such a time are a group: without a name, as those without a time."""
    text = "SELECT seen, count(*) AS n FROM people GROUP BY seen"
    assert answered(text, seen(value, 30)) == [
        {"seen": datetime.datetime(2001, 9, 9, 1, 46, 40, 1000), "n": 370},
        {"seen": None, "n": 30},
    ]


def test_dates_that_do_not_fit() -> None:
    """A date of the year 29349, as a typing error gives, ends no query that groups dates."""
    people = rooms.people().with_columns(
        born=pl.when(pl.col("id") <= 30)
        .then(pl.lit(10_000_000, dtype=pl.Int32).cast(pl.Date))
        .otherwise(pl.date(1950 + pl.col("id") % 2, 1, 1))
    )
    text = "SELECT born, count(*) AS n FROM people GROUP BY born"
    found = answered(text, people)
    assert [each["born"] for each in found] == [
        datetime.date(1950, 1, 1),
        datetime.date(1951, 1, 1),
        None,
    ]
    assert sum(int(str(each["n"])) for each in found) == 400
