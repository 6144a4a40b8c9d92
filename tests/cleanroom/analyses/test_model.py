"""The model: scored honestly, coarse enough for its persons, and with a result whatever the values are."""

from __future__ import annotations

import math

import msgspec
import polars as pl
import pytest

from kluis.cleanroom.agreement.agreement import Arm
from kluis.cleanroom.analyses import model
from kluis.cleanroom.analyses.noise import Noise
from tests.cleanroom import samples

NOISE = Noise(key=b"k" * 32, scores=3, models=1)
TABLE = pl.DataFrame(
    {
        "person": range(3000),
        "died": [number % 3 == 0 for number in range(3000)],
        "age": [number % 7 + 3 * (number % 3 == 0) for number in range(3000)],
        "value": [None if number % 5 else float(number * 7919 % 11) for number in range(3000)],
    }
).with_columns(pl.col("died").cast(pl.Int64))
ASKED = msgspec.structs.replace(
    samples.MODEL,
    arms=(Arm(name="age", predictors=("age",)), Arm(name="value", predictors=("value",))),
    compare=(("age", "value"),),
)


def run(table: pl.DataFrame, k: int = 10, noise: Noise = NOISE) -> model.ModelResult:
    return model.run(ASKED, table, k, noise, "SELECT")


def test_scores() -> None:
    """A predictor that tells scores high, another by chance, and a difference is of what is published."""
    found = run(TABLE)
    scores = {each.name: float(each.value) for each in (*found.arms, *found.differences)}
    assert found.persons == pytest.approx(3000, abs=60)
    assert found.with_outcome == pytest.approx(1000, abs=40)
    assert found.persons % 10 == found.with_outcome % 10 == 0
    assert scores["age"] > 0.8
    assert 0.45 < scores["value"] < 0.55
    assert scores["age - value"] == pytest.approx(scores["age"] - scores["value"], abs=1e-9)
    assert all(float(each.low) < float(each.value) < float(each.high) for each in found.arms)


def test_order_of_rows_does_not_matter() -> None:
    """The same persons in another order give the same result, to the last digit."""
    assert run(TABLE) == run(TABLE.reverse())


def test_the_noise_is_the_same_for_the_same_question_only() -> None:
    """A run that is repeated draws nothing new; another key, other SQL or another number of scores does."""
    found = run(TABLE)
    others = [
        run(TABLE, noise=Noise(b"l" * 32, 3, 1)),
        model.run(ASKED, TABLE, 10, NOISE, "SELECT 1"),
        run(TABLE, noise=Noise(b"k" * 32, 300, 1)),
    ]
    assert run(TABLE) == found
    counts = {(each.persons, each.with_outcome) for each in (found, *others)}
    assert len(counts) == 4


def test_the_more_is_asked_the_coarser_is_each_answer() -> None:
    """An interval grows with the root of the number of scores that the agreement's models publish."""
    widths = []
    for scores in (1, 2500):
        value = run(TABLE, noise=Noise(b"k" * 32, scores, 1)).arms[1]
        widths.append(float(value.high) - float(value.low))
    assert widths[1] > 3 * widths[0]


@pytest.mark.parametrize(
    "bad",
    [
        pl.concat([TABLE.head(50), TABLE.head(50), TABLE]),
        TABLE.with_columns(died=pl.when(pl.col("person") < 100).then(2).otherwise("died")),
        TABLE.with_columns(died=pl.when(pl.col("person") < 100).then(None).otherwise("died")),
        TABLE.with_columns(died=pl.when(pl.col("person") < 100).then(pl.lit("x")).otherwise("died")),
        TABLE.with_columns(person=pl.when(pl.col("person") < 100).then(None).otherwise("person")),
    ],
    ids=["twice", "two", "null", "text", "nobody"],
)
def test_rows_that_cannot_be_used_are_left_out(bad: pl.DataFrame) -> None:
    """A person twice, an outcome that is not 0 or 1: as if those persons were not there, and no error."""
    gone = 50 if len(bad) > 3000 else 100
    assert run(bad) == run(TABLE.filter(pl.col("person") >= gone))


@pytest.mark.parametrize(
    "values",
    [
        pl.lit(1.0),
        pl.lit(None),
        pl.lit(float("nan")),
        pl.lit("text"),
        pl.when(pl.col("person") == 7).then(1e308).otherwise(-1e308),
        pl.when(pl.col("person") == 7).then(float("inf")).otherwise(0.0),
        pl.when(pl.col("person") == 7).then(None).otherwise(0.0),
    ],
    ids=["constant", "null", "nan", "text", "huge", "infinite", "one missing"],
)
def test_a_predictor_that_tells_nothing_of_k_persons(values: pl.Expr) -> None:
    """It is left out: the arm scores as one without a predictor, and nothing fails."""
    found = {each.name: each.value for each in run(TABLE.with_columns(value=values)).arms}
    nothing = {each.name: each.value for each in run(TABLE.with_columns(value=pl.lit(0))).arms}
    assert found == nothing


@pytest.mark.parametrize("rows", [0, 1, 12, 50])
def test_too_few(rows: int) -> None:
    """Fewer than about four times k of either: no number at all."""
    found = run(TABLE.head(rows))
    assert (found.persons, found.with_outcome, found.arms, found.differences) == (0, 0, (), ())


def test_fewer_than_k_never_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the noise is as large as it gets."""
    monkeypatch.setattr(Noise, "normal", lambda self, label: 8.0)
    assert run(TABLE.head(27)).arms == ()
    assert run(TABLE.head(33)).arms != ()


def test_noise_is_normal() -> None:
    """Over many labels: mean 0, deviation 1."""
    drawn = [NOISE.normal(str(number)) for number in range(4000)]
    mean = sum(drawn) / 4000
    assert abs(mean) < 0.05
    assert math.sqrt(sum(each**2 for each in drawn) / 4000) == pytest.approx(1, abs=0.04)
