"""What the engine computes on: one form of each value, in whole steps of the declared range."""

from __future__ import annotations

import datetime

import polars as pl
import pytest

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.agreement.terms import Range, Terms
from kluis.cleanroom.data import datasets
from kluis.cleanroom.data.values import prepare
from kluis.errors import PolicyError
from tests.cleanroom import samples


def dataset(table: pl.DataFrame, ranges: dict[str, Range]) -> Dataset:
    """A data set whose columns may all be filtered."""
    uses = {name: ["join"] if name == "id" else ["filter"] for name in table.columns}
    agreed = Terms(
        privacy_unit="id",
        k_min=3,
        rows_per_person=0,
        columns=datasets.columns_of(table, uses, ranges),  # type: ignore[arg-type]
        expires=samples.LATER,
    )
    return Dataset(id="t", version=1, owner="clinic", terms=agreed, parts=datasets.describe([b"x"]))


def values(column: pl.Series, low: str = "", high: str = "", step: str = "") -> list[object]:
    """A column as the engine has it."""
    table = pl.DataFrame({"id": range(len(column)), "x": column})
    ranges = {"x": Range(low=low, high=high, step=step)} if low else {}
    return prepare(table, dataset(table, ranges))["c1"].to_list()


def test_numbers_are_steps() -> None:
    """Numbers are clamped, and each is rounded to its nearest step; NaN is missing."""
    odd = pl.Series([0.0, 0.14, 0.16, -9.0, 1e308, float("inf"), -float("inf"), float("nan"), None, -0.0])
    assert values(odd, "0", "1", "0.1") == [0, 1, 2, 0, 10, 10, 0, None, None, 0]
    assert values(pl.Series([-9, 4, 5, 6, 2**62, None]), "0", "20", "5") == [0, 1, 1, 1, 4, None]
    assert values(pl.Series([True, False, None])) == [1, 0, None]


def test_one_form_without_a_range() -> None:
    """Without a range: no NaN, no -0.0, UTC without a zone; text stays as it is, case and spaces too."""
    assert str(values(pl.Series([-0.0, float("nan"), 2.5]))) == "[0.0, None, 2.5]"
    assert values(pl.Series(["a", "A", "a ", "\u00e9", "e\u0301"])) == ["a", "A", "a ", "\u00e9", "e\u0301"]
    zone = datetime.timezone(datetime.timedelta(hours=2))
    noon = pl.Series([datetime.datetime(2026, 1, 1, 12, tzinfo=zone)])
    assert values(noon) == [datetime.datetime(2026, 1, 1, 10)]


def test_times_that_python_cannot_express() -> None:
    """A time outside the years 1 to 9999, or that does not fit in microseconds, is missing; no other is."""
    odd = [2**63 - 1, -(2**63) + 1, 253_402_300_800_000, -62_135_596_800_001, 0]
    epoch = datetime.datetime(1970, 1, 1)
    for zone in (None, "UTC", "Pacific/Auckland"):
        kind = pl.Datetime("ms", zone)
        assert values(pl.Series(odd, dtype=pl.Int64).cast(kind)) == [None, None, None, None, epoch]
    ends = [253_402_300_799_999_999, -62_135_596_800_000_000]
    assert values(pl.Series(ends, dtype=pl.Int64).cast(pl.Datetime("us"))) == [
        datetime.datetime.max,
        datetime.datetime.min,
    ]
    days = [2**31 - 1, -(2**31), 2_932_897, -719_163, 2_932_896, -719_162]
    assert values(pl.Series(days, dtype=pl.Int32).cast(pl.Date)) == [
        *[None] * 4,
        datetime.date.max,
        datetime.date.min,
    ]


def test_whole_numbers_of_64_bits() -> None:
    """A whole number that the engine would round is refused, with a name and without a value."""
    table = pl.DataFrame({"id": [1], "x": pl.Series([2**63], dtype=pl.UInt64)})
    with pytest.raises(PolicyError) as caught:
        prepare(table, dataset(table, {}))
    assert caught.value.message == "data set t: x: want whole numbers of 64 bits"


def test_only_what_may_be_used() -> None:
    """A column that may be put to no use is not handed to the engine."""
    table = samples.people()
    described = Dataset(
        id="people",
        version=1,
        owner="clinic",
        terms=samples.terms(table, samples.PEOPLE_USES),
        parts=datasets.describe([b"x"]),
    )
    assert prepare(table, described).columns == ["u", "c1", "c2", "c3", "c4"]
