"""What a recipient learns of one person from what models publish, when it tries.

The attacker knows everything but one fact about one person, proposes the analyses, and reads the results.
It cannot read the noise: that is keyed by every owner's data key.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import msgspec
import numpy as np
import polars as pl
import pytest

from kluis.cleanroom import analysis, budget, model, plan
from kluis.cleanroom.agreement import Arm, ModelAnalysis
from kluis.cleanroom.documents import decode
from kluis.cleanroom.noise import Noise
from kluis.cleanroom.score import auc, placements
from kluis.cleanroom.terms import Use
from kluis.errors import FormatError, PolicyError
from tests.adversary import rooms
from tests.cleanroom import samples
from tests.cleanroom.platform import Attester, Platform
from tests.cleanroom.test_session import Stage

K = 10
TARGET = 7
GENERATOR = np.random.default_rng(11)
PEOPLE = pl.DataFrame(
    {
        "id": range(1, 601),
        "age": GENERATOR.integers(30, 90, 600),
        "weight": GENERATOR.normal(80, 15, 600).round(1),
    }
).with_columns(
    died=((pl.col("age") - 60) / 12 + pl.Series(GENERATOR.logistic(0, 1, 600)) > 0.9).cast(pl.Int64)
)
USES: dict[str, list[Use]] = {
    "id": ["join"],
    "age": ["filter", "model"],
    "weight": ["model"],
    "died": ["model"],
}
ROOM, _ = samples.dataset("people", "clinic", PEOPLE, USES, b"k" * 32)


def asked(arms: int, predictor: str) -> ModelAnalysis:
    """Eight arms that all ask the same, under predictors of their own so that each draws its own noise."""
    names = [f"x{number}" for number in range(arms)]
    columns = ", ".join(f"{predictor} AS {name}" for name in names)
    return msgspec.structs.replace(
        samples.MODEL,
        inputs=("people",),
        table=f"SELECT p.id AS person, p.died, {columns} FROM people p",
        arms=tuple(Arm(name=name, predictors=(name,)) for name in names),
        compare=(),
        folds=2,
    )


SHOWN: list[pl.DataFrame] = []


def published(question: ModelAnalysis, people: pl.DataFrame, key: int, scores: int = 8) -> float:
    """What the attacker reads, averaged over the arms."""
    SHOWN[:] = [people]
    noise = Noise(key.to_bytes(32), scores, 1)
    found = analysis.compute(question, (ROOM,), {"people": people}, K, noise)[0]
    size = int.from_bytes(found[:4])
    read = decode(found[4 : 4 + size], model.ModelResult, "result")
    return float(np.mean([float(each.value) for each in read.arms]))


def right(question: ModelAnalysis, worlds: tuple[pl.DataFrame, pl.DataFrame], trials: int) -> float:
    """How often the attacker tells two worlds apart, which differ in one person's one value."""
    first = [published(question, worlds[0], 2 * key) for key in range(trials)]
    second = [published(question, worlds[1], 2 * key + 1) for key in range(trials)]
    # The best line between them, found with hindsight: better than any attacker has it.
    lines = sorted({*first, *second})
    best = max(
        abs(sum(each < line for each in first) - sum(each < line for each in second)) for line in lines
    )
    return 0.5 + best / trials / 2


def worlds() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The target weighs 95.3 or 55.1; all else is the same."""
    there = pl.col("id") == TARGET
    heavy, light = (
        PEOPLE.with_columns(weight=pl.when(there).then(value).otherwise("weight")) for value in (95.3, 55.1)
    )
    return heavy, light


def weight_attack(monkeypatch: pytest.MonkeyPatch) -> ModelAnalysis:
    """The predictor that singles the target out, let through whatever the query rules are."""
    target = PEOPLE.row(by_predicate=pl.col("id") == TARGET, named=True)
    predictor = (
        f"CASE WHEN p.age = {target['age']} AND p.id = {TARGET} THEN "
        "CASE WHEN p.weight > 75 THEN 200 ELSE 0 END ELSE p.age END"
    )

    honest = analysis.Engine.table

    def table(engine: analysis.Engine, sql: str) -> pl.DataFrame:
        raw = analysis.Engine({"people": SHOWN[-1]})
        arms = ", ".join(f"{predictor} AS x{number}" for number in range(8))
        return honest(raw, f"SELECT p.id, p.died, {arms}, 1000 FROM people p")

    monkeypatch.setattr(analysis.Engine, "table", table)
    return asked(8, "p.age")


def test_a_weight_through_the_auc(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the noise, eight arms of one room tell a guess of 50 of 100 little; without it, they tell all."""
    question = weight_attack(monkeypatch)
    monkeypatch.setattr(model, "_folds", lambda asked, table, drawn: np.arange(len(table)) % 2)
    assert right(question, worlds(), 25) < 0.8
    monkeypatch.setattr(model, "CAUTION", 1e-6)
    assert right(question, worlds(), 5) == 1


@pytest.mark.parametrize("others", [0, 9], ids=["one or nobody", "k or k - 1"])
def test_a_persons_value_does_not_decide_whether_there_is_a_result(others: int) -> None:
    """One person's outcome makes a cell small; the cell is left out, and the scores are there."""
    marked = dict.fromkeys(range(1, 41), 1)
    codes = rooms.codes(dict.fromkeys(range(1, 401), 0), marked)
    question = msgspec.structs.replace(
        samples.MODEL,
        inputs=("people", "codes"),
        table="SELECT p.id AS person, p.status AS died, p.age FROM people p JOIN codes c ON p.id = c.id "
        "WHERE c.mark = 1 OR c.mark = 0",
        arms=(Arm(name="age", predictors=("age",)),),
        compare=(),
    )
    for secret in (0, 1):
        died = pl.when(pl.col("id") == 5).then(secret).when(pl.col("id").is_between(10, 9 + others)).then(1)
        people = rooms.people().with_columns(
            status=died.when(pl.col("id") <= 40).then(0).otherwise("status").cast(pl.Int64)
        )
        tables = {"people": people, "codes": codes}
        found = analysis.compute(question, rooms.inputs(tables), tables, K, Noise(b"n" * 32, 1, 1))[0]
        read = decode(found[4 : 4 + int.from_bytes(found[:4])], model.ModelResult, "result")
        assert [each.name for each in read.arms] == ["age"]


def test_small_cells_are_left_out() -> None:
    """Nobody is in a model's table with fewer than k to 2k others of the same answers, and not always k."""
    table = pl.DataFrame({"person": range(60), "size": [each // 2 for each in range(60)]})
    least = set()
    for key in range(60):
        kept = model.leave_out_small(table, K, Noise(bytes([key]) * 32, 1, 1))
        assert kept.columns == ["person"]
        least.add(kept["person"].to_list()[0] // 2)
    assert (min(least), max(least)) == (K, 2 * K - 1)


def test_chance_of_a_guess() -> None:
    """From scores and counts of a whole agreement: 63 in 100 for k = 10, 66 for k = 3; 69, 79 beyond."""
    for k, moved, want in ((10, 1.0, 63), (3, 1.0, 66), (10**6, 1.5, 69), (10**6, 2.45, 79)):
        apart = math.hypot(moved / model.CAUTION, math.sqrt(2) / k)
        assert round(100 * NormalDist().cdf(apart / 2)) == want


def exact(people: pl.DataFrame, predictors: tuple[str, ...]) -> float:
    """The AUC that stays inside, over folds that are fixed."""
    question = msgspec.structs.replace(samples.MODEL, person="id", folds=5)
    arm = Arm(name="a", predictors=predictors)
    table = model._usable(question, people)
    outcome = table["died"].to_numpy() == 1
    folds = model._folds(question, table, Noise(b"f" * 32, 1, 1))
    scores = model._cross_validated(arm, table, outcome, folds, dict.fromkeys(predictors, K))
    return auc(outcome, placements(outcome, scores))


def test_one_person_who_tips_a_fit() -> None:
    """A predictor of forty persons, almost balanced: one moves the mean over folds by up to 3 / n."""
    draw, count = np.random.default_rng(5), 80
    coded = np.zeros(2 * count)
    coded[:21] = [1] * 12 + [-1] * 9  # with the outcome: the target first
    coded[count : count + 20] = [1] * 9 + [-1] * 11
    table = pl.DataFrame({"x": coded})
    moved = []
    for _ in range(150):
        folds, found = draw.integers(0, 7, 2 * count), []
        for secret in (0, 1):
            outcome = np.arange(2 * count) < count
            outcome[0] = secret
            scores = model._cross_validated(Arm(name="a", predictors=("x",)), table, outcome, folds, {"x": K})
            found.append(auc(outcome, placements(outcome, scores)))
        moved.append((found[1] - found[0]) * (count - 1))
    assert model.CAUTION * budget.reach(1) < np.mean(moved) < 3.0


@pytest.mark.parametrize(
    "predictors",
    [("age",), ("age", "weight"), ("coded",), ("age", "coded"), ("rare", "age")],
    ids=["honest", "two", "powers of two", "with age", "ten persons"],
)
def test_one_person_moves_an_auc_by_less_than_the_noise_assumes(predictors: tuple[str, ...]) -> None:
    """Each of sixty persons leaves, or has another outcome and the most extreme values: at most 1.5 / n."""
    people = PEOPLE.with_columns(coded=2.0 ** (pl.col("id") % 60), rare=(pl.col("id") <= 10).cast(pl.Float64))
    whole = exact(people, predictors)
    least = min(people["died"].sum(), len(people) - people["died"].sum())
    moved = []
    for number in range(1, 601, 20):
        there = pl.col("id") == number
        moved.append(abs(exact(people.filter(~there), predictors) - whole))
        other = people.with_columns(
            pl.when(there).then(1 - pl.col("died")).otherwise("died").alias("died"),
            *(pl.when(there).then(1e300).otherwise(each).alias(each) for each in predictors),
        )
        moved.append(abs(exact(other, predictors) - whole))
    assert 0 < max(moved) * least < model.CAUTION


@pytest.mark.parametrize("persons", [800, 40], ids=["far out in all", "rare in all"])
def test_one_person_in_the_fit_of_many_predictors(persons: int) -> None:
    """A co-owner's columns agree on one person only, and lean to the outcomes that it knows of the others.

    As values they are where that person is furthest out; as rare ones, where it is one of forty.
    """
    predictors = tuple(f"x{number}" for number in range(20))
    moved = []
    for seed in range(6):
        pick = np.random.default_rng(seed)
        died = pick.random(800) < 0.5
        columns = {}
        for name in predictors:
            lean = pick.normal(0, 1, 800) + died * (0.1 if persons == 800 else 0.2)
            lean[0] = lean.max() + 1
            columns[name] = lean if persons == 800 else (lean >= np.sort(lean)[-persons]).astype(float)
        people = pl.DataFrame({"id": range(800), **columns})
        worlds = [np.where(np.arange(800) == 0, secret, died).astype(int) for secret in (0, 1)]
        scores = [exact(people.with_columns(died=pl.Series(each)), predictors) for each in worlds]
        moved.append((scores[1] - scores[0]) * min(sum(worlds[0]), 800 - sum(worlds[1])))
    assert 0.5 < np.mean(moved) < model.CAUTION * budget.reach(len(predictors))


def test_a_model_of_too_many_predictors() -> None:
    """With fewer than 20 persons of either outcome to a predictor, no score leaves."""
    for count, scored in ((13, True), (20, False)):
        names = [f"x{number}" for number in range(count)]
        table = PEOPLE.with_columns(pl.col("weight").alias(name) for name in names).rename({"id": "person"})
        table = table.with_columns(died=pl.col("person") % 2)
        question = msgspec.structs.replace(
            samples.MODEL, arms=(Arm(name="all", predictors=tuple(names)),), compare=()
        )
        found = model.run(question, table, 3, Noise(b"n" * 32, 1, 1), "SELECT")
        assert bool(found.arms) == scored


def test_noise_of_another_width_is_another() -> None:
    """An arm next to a wider one has coarser noise, drawn again: two multiples of one draw give it away."""
    arms = (Arm(name="a", predictors=("age",)), Arm(name="b", predictors=("age", "weight")))
    table = PEOPLE.rename({"id": "person"}).with_columns(died=pl.col("person") % 2)
    found = [
        model.run(
            msgspec.structs.replace(samples.MODEL, arms=each, compare=()),
            table,
            3,
            Noise(b"n" * 32, 2, 1),
            "",
        )
        for each in (arms, arms[:1])
    ]
    assert found[0].with_outcome != found[1].with_outcome  # drawn under another key
    assert found[0].arms[0].value != found[1].arms[0].value


def test_a_value_as_it_is_would_move_it_more() -> None:
    """Ranks are why: with values as they are, one person's 1e300 makes the others' all alike."""
    people = PEOPLE.with_columns(pl.col("weight").cast(pl.Float64))
    for table in (
        people,
        people.with_columns(weight=pl.when(pl.col("id") == 1).then(1e300).otherwise("weight")),
    ):
        (ranks,) = model._ranks(table["weight"], K)
        assert ranks.std() == pytest.approx(1, abs=0.01)
        assert abs(ranks).max() < 1.74


def test_other_seeds_and_folds_do_not_average_the_noise_out() -> None:
    """The mean of all scores of a room is no better known than one score of a room with one."""
    for scores in (1, 16, 64):
        means = [
            np.mean([Noise(bytes([key]) * 32, scores, 1).normal(str(arm)) for arm in range(scores)])
            for key in range(250)
        ]
        assert np.std(means) * model.CAUTION * scores**0.5 == pytest.approx(model.CAUTION, rel=0.15)
    with pytest.raises(FormatError) as caught:
        plan.read_plan(
            'expires_days=1\nk_min=3\nmax_runs=1\n[code]\nprotection=["process"]\n[[analysis]]\nkind="logistic"\n'
            'id="a"\nquestion="q"\ninputs=["t"]\nrecipients=["r"]\ntable="t"\nperson="p"\noutcome="o"\n'
            'compare=[]\nfolds=2\nseed=1\n[[analysis.arms]]\nname="a"\npredictors=["x"]\n'
        )
    assert caught.value.message.startswith("plan.analysis[0].seed: want one of id, question, inputs, ")


def test_noise_that_an_owner_would_subtract(tmp_path: Path) -> None:
    """Changed data under an old key has other noise; a new agreement over the same data has the same."""
    agreed = samples.setting(tmp_path).agreement
    keys = {"people": b"p" * 32, "labs": b"l" * 32}
    noise = Noise.of(agreed, keys)
    assert (noise.scores, noise.models) == (3, 1)
    assert Noise.of(msgspec.structs.replace(agreed, title="Again", max_runs=1), keys) == noise
    labs = msgspec.structs.replace(agreed.dataset("labs"), version=2)
    changed = msgspec.structs.replace(agreed, datasets=(agreed.dataset("people"), labs))
    assert Noise.of(changed, keys).key != noise.key
    for name in keys:
        assert Noise.of(agreed, {**keys, name: b"x" * 32}).key != noise.key
    assert noise.key.hex() not in repr(noise)
    assert "b'" not in repr(noise)


def test_more_figures_than_the_limit(tmp_path: Path) -> None:
    """Analyses that each are within bounds are refused together, before signing and by the enclave."""
    platform = Platform(samples.NOW)
    many = tuple(msgspec.structs.replace(samples.QUERY, id=f"q{number}", max_rows=40) for number in range(5))
    setting = samples.setting(tmp_path, samples.code(root=platform.root()), many)
    assert (budget.total_figures(setting.agreement), budget.most_figures(setting.agreement)) == (600, 500)
    with pytest.raises(PolicyError) as caught:
        plan.check_analyses(setting.agreement)
    assert caught.value.code == "figures"
    assert caught.value.message.startswith("agreement: want at most 500 published figures, got 600 (q0 120, ")
    stage = Stage(platform, setting, Attester(platform))
    session = stage.session()
    stage.give(session)
    with pytest.raises(PolicyError) as inside:
        session.run()
    assert inside.value.code == "figures"


def test_a_data_set_that_raises_the_limit(tmp_path: Path) -> None:
    """A co-owner's data set with a k of its own does not let out more of the others' data."""
    setting = samples.setting(tmp_path, analyses=(samples.QUERY,))
    people = setting.agreement.dataset("people")
    strict = msgspec.structs.replace(
        people, id="strict", terms=msgspec.structs.replace(people.terms, k_min=1_000_000)
    )
    only = msgspec.structs.replace(samples.QUERY, id="strict", inputs=("strict",), max_rows=1)
    for analyses in ((samples.QUERY,), (samples.QUERY, only)):
        agreement = msgspec.structs.replace(
            setting.agreement, datasets=(*setting.agreement.datasets, strict), analyses=analyses
        )
        assert budget.most_figures(agreement) == 100 * samples.K


@pytest.mark.parametrize("change", [{"compare": (("both", "x"),)}, {"arms": samples.MODEL.arms * 2}])
def test_arms_that_are_not_there(tmp_path: Path, change: dict[str, object]) -> None:
    """A pair of arms that are not there, and an arm twice, are refused before anybody signs."""
    setting = samples.setting(tmp_path, analyses=(msgspec.structs.replace(samples.MODEL, **change),))
    with pytest.raises(PolicyError) as caught:
        plan.check_analyses(setting.agreement)
    assert caught.value.message.startswith(
        "analysis death: want each arm and pair once and pairs of ['both', "
    )
