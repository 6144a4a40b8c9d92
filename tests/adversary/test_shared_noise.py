"""Two models of one agreement that draw the same noise: subtracted, their scores would be free of it."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest

from kluis.cleanroom.agreement.agreement import Arm, Dataset, ModelAnalysis
from kluis.cleanroom.agreement.documents import decode
from kluis.cleanroom.analyses import analysis, model
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.analyses.score import Floats
from tests.adversary import rooms
from tests.cleanroom import samples

TABLES = {"people": rooms.people(), "codes": rooms.codes({each: each for each in range(1, 401)}, {})}
USES = {**rooms.CODES, "code": ["model"], "mark": ["model"]}


def scored(question: ModelAnalysis, datasets: dict[str, Dataset], key: int) -> model.ModelResult:
    """What an agreement of two such models publishes of one; the data are the same, whatever their name."""
    tables = {name: TABLES["people" if name == "people" else "codes"] for name in datasets}
    inputs = tuple(datasets[name] for name in question.inputs)
    found, _ = analysis.compute(question, inputs, tables, rooms.K, Noise(bytes([key]) * 32, 4, 2))
    return decode(found[4 : 4 + int.from_bytes(found[:4])], model.ModelResult, "result")


def asked(names: tuple[str, str], codes: str) -> ModelAnalysis:
    """A model of age and of a code, under two names; in the order of the names, age comes first."""
    return msgspec.structs.replace(
        samples.MODEL,
        inputs=("people", codes),
        table=f"SELECT p.id AS person, p.status AS died, p.age AS {names[0]}, c.code AS {names[1]} "
        f"FROM people p JOIN {codes} c ON p.id = c.id",
        arms=tuple(Arm(name=each, predictors=(each,)) for each in names),
        compare=(),
    )


def described(name: str) -> Dataset:
    """A co-owner's data set, under a name of its choice."""
    return rooms.described(name, TABLES["codes"], USES)


def test_data_sets_of_another_name() -> None:
    """A co-owner brings its table twice: what differs between the two is not read without noise."""
    people = rooms.described("people", TABLES["people"], rooms.PEOPLE)
    datasets = {"people": people, "codes": described("codes"), "again": described("again")}
    same = 0
    for key in range(8):
        first, second = (scored(asked(("a", "b"), name), datasets, key) for name in ("codes", "again"))
        assert first.arms
        assert second.arms
        same += first.arms == second.arms
    assert same < 4


def test_predictors_of_another_name() -> None:
    """``b`` is the code in one model and the age in the other, and the SQL that runs is the same."""
    people = rooms.described("people", TABLES["people"], rooms.PEOPLE)
    datasets = {"people": people, "codes": described("codes")}
    apart = set()
    for key in range(8):
        code, age = (scored(asked(names, "codes"), datasets, key) for names in (("a", "b"), ("b", "c")))
        apart.add((code.persons - age.persons, code.with_outcome - age.with_outcome))
    assert len(apart) > 1  # with one draw for both, the counts, which are of the same persons, never differ


def test_one_column_under_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are rare, or none is: with separate thresholds, one would almost surely be k."""
    thresholds: list[int] = []
    real = model._ranks

    def ranks(column: pl.Series, least: int) -> list[Floats]:
        thresholds.append(least)
        return real(column, least)

    monkeypatch.setattr(model, "_ranks", ranks)
    names = [f"x{number}" for number in range(4)]
    question = msgspec.structs.replace(
        samples.MODEL,
        inputs=("people",),
        table=f"SELECT p.id AS person, p.status AS died, {', '.join(f'p.age AS {each}' for each in names)} "
        "FROM people p",
        arms=(Arm(name="all", predictors=tuple(names)),),
        compare=(),
    )
    people = rooms.described("people", TABLES["people"], rooms.PEOPLE)
    found = set()
    for key in range(60):
        thresholds.clear()
        assert scored(question, {"people": people}, key).arms
        assert len(set(thresholds)) == 1
        found.add(thresholds[0])
    assert (min(found), max(found)) == (rooms.K, 2 * rooms.K - 1)
