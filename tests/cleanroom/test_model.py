"""The model: scored honestly, or not at all."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest

from kluis.cleanroom import model
from kluis.cleanroom.agreement import Arm
from kluis.cleanroom.engine import AnalysisFailed
from tests.cleanroom import samples

TABLE = pl.DataFrame(
    {
        "person": range(300),
        "died": [number % 3 == 0 for number in range(300)],
        "age": [number % 7 + 3 * (number % 3 == 0) for number in range(300)],
        "value": [None if number % 5 else float(number % 11) for number in range(300)],
    }
).with_columns(pl.col("died").cast(pl.Int64))


def test_scores() -> None:
    """A predictor that tells scores high, noise scores by chance, and the difference is of the two."""
    asked = msgspec.structs.replace(
        samples.MODEL,
        arms=(Arm(name="age", predictors=("age",)), Arm(name="value", predictors=("value",))),
        compare=(("age", "value"),),
    )
    found = model.run(asked, TABLE, 10)
    scores = {each.name: float(each.value) for each in (*found.arms, *found.differences)}
    assert (found.persons, found.with_outcome) == (300, 100)
    assert scores["age"] > 0.8
    assert 0.35 < scores["value"] < 0.65
    assert scores["age - value"] == pytest.approx(scores["age"] - scores["value"], abs=2e-6)


def test_order_of_rows_does_not_matter() -> None:
    """The same persons in another order give the same result, to the last digit."""
    assert model.run(samples.MODEL, TABLE, 10) == model.run(samples.MODEL, TABLE.reverse(), 10)


@pytest.mark.parametrize(
    ("table", "k", "code"),
    [
        (pl.concat([TABLE, TABLE.head(1)]), 10, "analysis_person_twice"),
        (TABLE.with_columns(died=pl.lit(2)), 10, "analysis_outcome"),
        (TABLE.with_columns(died=pl.when(pl.col("person") > 0).then("died")), 10, "analysis_outcome"),
        (TABLE, 101, "analysis_too_few"),
    ],
    ids=["twice", "two", "null", "few"],
)
def test_refused(table: pl.DataFrame, k: int, code: str) -> None:
    """A person twice, an outcome that is none, fewer than k of either: a code, and no score."""
    with pytest.raises(AnalysisFailed) as caught:
        model.run(samples.MODEL, table, k)
    assert caught.value.code == code
