"""What a recipient learns of one person from what models publish, when it tries.

The attacker knows everything but one fact about one person, proposes the analyses, and reads the results.
It cannot read the noise: that is keyed by every owner's data key.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from statistics import NormalDist

import msgspec
import numpy as np
import polars as pl
import pytest

from kluis.cleanroom.agreement.agreement import Arm, ModelAnalysis
from kluis.cleanroom.agreement.documents import decode
from kluis.cleanroom.agreement.terms import Use
from kluis.cleanroom.analyses import analysis, budget, model, score
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.analyses.score import auc, placements
from kluis.cleanroom.signing import plan
from kluis.errors import FormatError, PolicyError
from tests.adversary import rooms
from tests.cleanroom import samples
from tests.cleanroom.platform import Attester, Platform
from tests.cleanroom.running.test_session import Stage

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
    """Eight arms with the same request, under separate predictors so that each draws new noise."""
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
    monkeypatch.setattr(model, "_shares", lambda asked, table, drawn: np.ones(len(table)))
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
    """Of a cell below k persons nobody counts, of one of 2k all do, and of one between each by chance."""
    sizes = [size for size in range(5, 26) for _ in range(200)]
    table = pl.DataFrame({"person": range(len(sizes)), "size": sizes})
    kept = model.leave_out_small(table, K, Noise(b"n" * 32, 1, 1))
    assert kept.columns == ["person"]
    share = Counter(sizes[each] for each in kept["person"])
    assert [share[size] for size in range(5, 10)] == [0] * 5
    assert [share[size] for size in range(19, 26)] == [200] * 7
    for size in range(10, 19):
        assert 20 * (size - 9) - 30 < share[size] < 20 * (size - 9) + 30


def test_one_person_who_makes_a_cell_large_enough() -> None:
    """One more in a cell changes for one or two of the others whether they count, under each secret."""
    changed = []
    for key in range(40):
        with_one, without = (
            model.leave_out_small(
                pl.DataFrame({"person": range(15), "size": [size] * 15}), K, Noise(bytes([key]) * 32, 1, 1)
            )
            for size in (15, 14)
        )
        changed.append(len(with_one) - len(without))
    assert max(changed) <= 6
    assert 0.8 < float(np.mean(changed)) < 2.2


def test_chance_of_a_guess() -> None:
    """From scores and counts of a whole agreement: 57 in 100 for k = 10, 61 for k = 3; 60, 63, 66 beyond."""
    for k, moved, want in ((10, 1.0, 57), (3, 1.0, 61), (10**6, 1.5, 60), (10**6, 2.0, 63), (10**6, 2.5, 66)):
        apart = math.hypot(moved / model.CAUTION, math.sqrt(2) / k)
        assert round(100 * NormalDist().cdf(apart / 2)) == want


def exact(people: pl.DataFrame, predictors: tuple[str, ...], key: int = 0) -> float:
    """The AUC that stays inside, under one key."""
    question = msgspec.structs.replace(samples.MODEL, person="id", folds=5)
    arm = Arm(name="a", predictors=predictors)
    table = model._usable(question, people)
    outcome = table["died"].to_numpy() == 1
    drawn = Noise(bytes([key]) * 32, 1, 1)
    folds, shares = model._folds(question, table, drawn), model._shares(question, table, drawn)
    scores = model._cross_validated(arm, table, outcome, folds, shares, K)
    return auc(outcome, placements(outcome, scores))


def tipped(table: pl.DataFrame, folds: int, *, equal: bool) -> float:
    """How far the first person's outcome moves an AUC, on average over folds and shares, in 1 / n.

    Args:
        table: predictors; the first half of the persons has the outcome.
        folds: how many.
        equal: whether each person counts as one in a fit.
    """
    draw, count, arm = np.random.default_rng(5), len(table) // 2, Arm(name="a", predictors=(*table.columns,))
    moved = []
    for _ in range(50):
        parts, found = draw.integers(0, folds, 2 * count), []
        shares = np.ones(2 * count) if equal else draw.exponential(1, 2 * count)
        for secret in (0, 1):
            outcome = np.arange(2 * count) < count
            outcome[0] = secret
            scores = model._cross_validated(arm, table, outcome, parts, shares, 3)
            found.append(auc(outcome, placements(outcome, scores)))
        moved.append((found[1] - found[0]) * (count - 1))
    return float(np.mean(moved))


@pytest.mark.parametrize("folds", [7, 20])
@pytest.mark.parametrize("half", [20, 40])
def test_one_person_who_tips_a_fit(folds: int, half: int) -> None:
    """A predictor of forty or eighty persons, almost balanced, of opposite outcomes, which a co-owner knows.

    If all persons counted the same, one of them would tip several folds at once.
    """
    coded = np.zeros(400)
    coded[:half] = [1] * (half // 2 + 1) + [-1] * (half // 2 - 1)  # the target first
    coded[200 : 200 + half] = [1] * (half // 2 - 1) + [-1] * (half // 2 + 1)
    table = pl.DataFrame({"x": coded})
    assert 0 < tipped(table, folds, equal=False) < 2 * budget.reach(1) < model.CAUTION * budget.reach(1)
    if (folds, half) == (20, 20):
        assert tipped(table, folds, equal=True) > model.CAUTION * budget.reach(1)


def test_one_person_who_tips_a_fit_and_two_small_cells() -> None:
    """Marked by a co-owner, with as many persons of either outcome as are left out by chance."""
    marked = [(3.0, True, True)] * 17 + [(1.0, False, True)] * 15
    coded = [(1.0, True)] * 11 + [(-1.0, True)] * 9 + [(1.0, False)] * 9 + [(-1.0, False)] * 11
    rest = [(0.0, True)] * 163 + [(0.0, False)] * 165
    rows = [(3.0, False, True), *marked, *((*each, False) for each in coded + rest)]
    table = pl.DataFrame(rows, schema=["x", "died", "mark"], orient="row").with_row_index("person")
    draw, arm, moved = np.random.default_rng(4), Arm(name="a", predictors=("x",)), []
    for key in range(60):
        folds, shares, found = draw.integers(0, 20, len(rows)), draw.exponential(1, len(rows)), []
        for secret in (False, True):
            died = pl.when(pl.col("person") == 0).then(secret).otherwise("died")
            sized = table.with_columns(died=died).with_columns(size=pl.len().over("mark", "died"))
            kept = model.leave_out_small(sized, K, Noise(bytes([key]) * 32, 1, 1))
            outcome, who = kept["died"].to_numpy(), kept["person"].to_numpy()
            scores = model._cross_validated(arm, kept, outcome, folds[who], shares[who], K)
            found.append(auc(outcome, placements(outcome, scores)))
        moved.append((found[1] - found[0]) * 200)
    assert 1.5 * budget.reach(1) < np.mean(moved) < model.CAUTION * budget.reach(1)


@pytest.mark.parametrize(("count", "half"), [(10, 10), (4, 50)])
def test_one_person_who_tips_a_fit_of_many_predictors(count: int, half: int) -> None:
    """Each predictor is almost balanced among other persons; the target is in all of them."""
    coded = np.zeros((400, count))
    for number in range(count):
        mine = 1 + number * (half - 1)
        coded[mine : mine + half - 1, number] = [1] * (half // 2 + 1) + [-1] * (half // 2 - 2)
        other = 200 + number * half
        coded[other : other + half, number] = [1] * (half // 2 - 1) + [-1] * (half // 2 + 1)
    coded[0] = 1
    table = pl.DataFrame(coded, schema=[f"x{number}" for number in range(count)])
    assert 0 < tipped(table, 5, equal=False) < 2 * budget.reach(count)


def test_one_person_who_turns_the_order_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that a co-owner gives out: the fit is balanced to one person, and the order of all is not.

    In a fit the outermost ranks count the same, so that their order among each other is free. If only the
    order counted, that person would turn the AUC of the whole fold.
    """
    count = 5000
    ranks = (np.arange(2 * count) - count + 0.5) * math.sqrt(12) / (2 * count)
    bounded = np.clip(ranks, -1, 1)
    chosen = []
    for bend in np.linspace(1, 1.4, 101):
        outcome = np.zeros(2 * count, bool)
        outcome[np.argsort(ranks - bend * bounded)[-count:]] = True
        chosen.append((abs((bounded * (outcome - 0.5)).sum()), bend, outcome))
    outcome = min(chosen, key=lambda each: each[:2])[2]
    assert auc(outcome, placements(outcome, ranks * 1e6)) > 0.58
    draw, table, arm = np.random.default_rng(2), pl.DataFrame({"x": ranks}), Arm(name="a", predictors=("x",))

    secrets = [(draw.integers(0, 3, 2 * count), draw.exponential(1, 2 * count)) for _ in range(20)]

    def most() -> float:
        found = []
        for parts, shares in secrets:
            scores = []
            for secret in (False, True):
                outcome[-1] = secret
                rated = model._cross_validated(arm, table, outcome, parts, shares, K)
                scores.append(auc(outcome, placements(outcome, rated)))
            found.append(abs(scores[1] - scores[0]) * count)
        return max(found)

    assert most() < model.CAUTION * budget.reach(1)  # under each secret, not only on average
    monkeypatch.setattr(score, "NEAR", 1e-9)
    assert most() > 2 * model.CAUTION * budget.reach(1)


@pytest.mark.parametrize(
    "predictors",
    [("age",), ("age", "weight"), ("coded",), ("age", "coded"), ("rare", "age")],
    ids=["honest", "two", "powers of two", "with age", "ten persons"],
)
def test_one_person_moves_an_auc_by_less_than_the_noise_assumes(predictors: tuple[str, ...]) -> None:
    """Each of fifteen persons leaves, or has another outcome and extreme values: at most 1.5 reach / n."""
    people = PEOPLE.with_columns(coded=2.0 ** (pl.col("id") % 60), rare=(pl.col("id") <= 10).cast(pl.Float64))
    least = min(people["died"].sum(), len(people) - people["died"].sum())
    moved: dict[tuple[int, bool], list[float]] = {}
    for key in range(4):  # no party knows which
        whole = exact(people, predictors, key)
        for number in range(1, 601, 40):
            there = pl.col("id") == number
            other = people.with_columns(
                pl.when(there).then(1 - pl.col("died")).otherwise("died").alias("died"),
                *(pl.when(there).then(1e300).otherwise(each).alias(each) for each in predictors),
            )
            for leaves, changed in ((True, people.filter(~there)), (False, other)):
                moved.setdefault((number, leaves), []).append(exact(changed, predictors, key) - whole)
    assert (
        0 < max(abs(np.mean(each)) for each in moved.values()) * least < 1.5 * budget.reach(len(predictors))
    )


@pytest.mark.parametrize("persons", [800, 40], ids=["far out in all", "rare in all"])
def test_one_person_in_the_fit_of_many_predictors(persons: int) -> None:
    """A co-owner's columns agree on one person only, and lean to the others' outcomes that it knows.

    As values they are at the person's extreme; as rare ones, where it is one of forty.
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
    assert 0.5 < np.mean(moved) < 1.5 * budget.reach(len(predictors))


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
    """A co-owner's data set with its own k does not release more of the others' data."""
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
