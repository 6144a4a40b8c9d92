"""Score a logistic model of an outcome by cross-validation, for several sets of predictors.

Only noisy scores leave: an AUC for each arm, their differences, and two rounded counts. Coefficients,
predictions, folds and exact scores stay inside. One person changes an exact AUC by about 1/n, where n is the
size of the smaller class. The change is larger with more predictors (``budget.reach``), and twice as large if
a co-owner chooses the columns for it. The noise is 3 times that change, times the square root of the number
of scores that all models of the agreement publish: more scores mean more noise in each.
docs/concepts/what-leaves.md has the reasons.

There is always a result, whatever the values: an unusable row is left out, and too few persons give a result
without scores.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from kluis.cleanroom.agreement.agreement import Arm, ModelAnalysis
from kluis.cleanroom.agreement.documents import Document
from kluis.cleanroom.analyses import budget, logistic
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.analyses.score import Bits, Floats, auc, paired_variance, placements, single_variance

Decimal = Annotated[str, msgspec.Meta(pattern=r"^-?[01]\.[0-9]{3}\Z")]
CAUTION = 3.0
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_Z = 1.96  # of the normal distribution, for 95 %
Whole = npt.NDArray[np.int64]


class Score(Document, frozen=True):
    """An AUC or a difference of two, with its 95 % interval; decimals as text, for canonical JSON."""

    name: str
    value: Decimal
    low: Decimal
    high: Decimal


class ModelResult(Document, frozen=True):
    """The published result of a model.

    Attributes:
        persons, with_outcome: noisy, multiples of k; 0 if nothing else is published.
        arms: AUC of each arm; none if too few persons have the outcome or do not.
        differences: of the pairs the agreement names, ``first - second`` of the published AUCs.
    """

    persons: int
    with_outcome: int
    folds: int
    arms: tuple[Score, ...]
    differences: tuple[Score, ...]


def run(analysis: ModelAnalysis, table: pl.DataFrame, k: int, noise: Noise, executed: str) -> ModelResult:
    """Fit and score every arm on the same persons and folds.

    Args:
        analysis: as agreed.
        table: one row for each person. A person with several rows or without a name, and a row whose outcome
            is not 0 or 1, is left out.
        k: the fewest persons with the outcome, and without. Scores are published from ``budget.enough``.
        noise: the agreement's.
        executed: the SQL that produced the table, which identifies the question.
    """
    widest = budget.predictors_of(analysis)
    drawn = noise.for_question(
        executed, analysis.person, analysis.outcome, str(analysis.folds), str(k), str(widest)
    )
    nothing = ModelResult(persons=0, with_outcome=0, folds=analysis.folds, arms=(), differences=())
    table = _usable(analysis, table)
    outcome: Bits = table[analysis.outcome].to_numpy() == 1
    exact = (int(outcome.sum()), int((~outcome).sum()))
    wide = budget.width(k, noise.models)
    counts = [k * round((each + wide * drawn.normal(f"count {n}")) / k) for n, each in enumerate(exact)]
    # The noisy counts decide whether anything is published, so that one person does not. Fewer than k pass
    # only if noise exceeds three deviations; the second condition is for that case.
    if min(counts) < budget.enough(k, noise.models, widest) or min(exact) < k:
        return nothing
    deviation = CAUTION * math.sqrt(noise.scores) * budget.reach(widest) / (min(counts) - 2 * wide)
    step = next((each for each in _STEPS if each >= deviation / 2), _STEPS[-1])
    own = deviation**2 + step**2 / 12
    folds = _folds(analysis, table, drawn)
    shares = _shares(analysis, table, drawn)
    # In secret: the person who makes a column rare is seen with a chance of 1/k. One for all columns: of
    # several thresholds for one column under many names, the least would be known.
    rare = k + math.floor(k * drawn.uniform("rare"))
    placed = {
        arm.name: placements(outcome, _cross_validated(arm, table, outcome, folds, shares, rare))
        for arm in analysis.arms
    }
    published = {}
    for arm in analysis.arms:
        shift = deviation * drawn.for_question(*arm.predictors).normal("auc")
        published[arm.name] = _round(min(1.0, max(0.0, auc(outcome, placed[arm.name]) + shift)), step)
    differences, predictors = [], {arm.name: arm.predictors for arm in analysis.arms}
    for first, second in analysis.compare:
        spread = math.sqrt(paired_variance(outcome, placed[first], placed[second]) + 2 * own)
        # To a multiple of the step, up or down by chance: where it jumps is not known outside.
        drawn_for = drawn.for_question(first, second, *predictors[first], "", *predictors[second])
        margin = step * math.floor(_Z * spread / step + drawn_for.uniform("margin"))
        differences.append(_score(f"{first} - {second}", published[first] - published[second], margin, -1.0))
    return ModelResult(
        persons=sum(counts),
        with_outcome=counts[0],
        folds=analysis.folds,
        arms=tuple(
            _score(name, value, _Z * math.sqrt(single_variance(value, counts[0], counts[1]) + own), 0.0)
            for name, value in published.items()
        ),
        differences=tuple(differences),
    )


def leave_out_small(table: pl.DataFrame, k: int, drawn: Noise) -> pl.DataFrame:
    """Leave out the persons of small cells, so that no comparison isolates a few persons.

    The whole result is not withheld, because its existence would be one exact bit. Each person has a separate
    secret threshold, k to 2k. So one more person in a cell changes whether one or two others count. With one
    threshold, it would decide for all of them with probability 1/k.

    Args:
        table: its first column is the person. Its last column is the size of that person's cell, and is not
            returned.
        k: the fewest persons.
        drawn: the noise of this question.
    """
    names = table.to_series(0).cast(pl.String)
    least = pl.Series([k + math.floor(k * drawn.uniform(f"cell {name}")) for name in names], dtype=pl.Int64)
    return table.filter(table.to_series(-1) >= least)[:, :-1]


def _usable(analysis: ModelAnalysis, table: pl.DataFrame) -> pl.DataFrame:
    """The usable rows, in the order of persons."""
    return (
        table.with_columns(pl.col(analysis.outcome).cast(pl.Float64, strict=False))
        .filter(
            pl.col(analysis.person).is_not_null()
            & pl.col(analysis.person).is_unique()
            & pl.col(analysis.outcome).is_in([0.0, 1.0]).fill_null(value=False)
        )
        .sort(analysis.person)
    )


def _folds(analysis: ModelAnalysis, table: pl.DataFrame, drawn: Noise) -> Whole:
    """Each person's fold, from its name: it does not depend on the other persons."""
    names = table[analysis.person].cast(pl.String)
    return np.array(
        [math.floor(analysis.folds * drawn.uniform(f"fold {name}")) for name in names], dtype=np.int64
    )


def _shares(analysis: ModelAnalysis, table: pl.DataFrame, drawn: Noise) -> Floats:
    """As how many persons each one counts in a fit, 1 on average: exponential, from its name, in secret.

    Two groups that are balanced to one person, of opposite outcomes, would let that person decide the sign of
    a weight in each fold, and so which way a whole fold is ranked. In secret shares nobody can balance them.
    """
    names = table[analysis.person].cast(pl.String)
    return np.array([-math.log(drawn.uniform(f"share {name}")) for name in names], dtype=np.float64)


def _cross_validated(
    arm: Arm, table: pl.DataFrame, outcome: Bits, folds: Whole, shares: Floats, rare: int
) -> Floats:
    """Each person's score, from models fitted without that person."""
    columns = [column for name in arm.predictors for column in _ranks(table[name], rare)]
    scores = np.zeros(len(outcome))
    if not columns:
        return scores
    values = np.stack(columns, axis=1)
    values /= np.sqrt((values**2).mean(axis=0))
    # Limit each person's distance to the average: a person who is extreme in many columns at once would
    # decide the fit in the direction that they share.
    length = np.sqrt((values**2).sum(axis=1, keepdims=True))
    bounded = values * np.minimum(1, math.sqrt(values.shape[1]) / np.maximum(length, 1e-9))
    for fold in np.unique(folds):
        fitted = folds != fold
        weights = logistic.fit(bounded[fitted], outcome[fitted], shares[fitted])
        scores[~fitted] = logistic.predict(weights, values[~fitted])
    return scores


def _ranks(column: pl.Series, least: int) -> list[Floats]:
    """A predictor as ranks of about unit spread, missing values in the middle; and which are missing.

    A rank is bounded, whatever the value, and one person moves the others' by at most 1/n. A column in which
    fewer than ``least`` persons differ from its most frequent value is left out.
    """
    values = column.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    known = np.isfinite(values)
    present = np.sort(values[known])
    ranks = np.zeros(len(values))
    both = np.searchsorted(present, values[known], "left") + np.searchsorted(present, values[known], "right")
    ranks[known] = (both - len(present)) / 2
    missing = (~known).astype(np.float64) * len(values) / 2
    return [
        each * math.sqrt(12) / len(values)
        for each in (ranks, missing)
        if len(each) - np.unique(each, return_counts=True)[1].max() >= least
    ]


def _round(value: float, step: float) -> float:
    return step * round(value / step)


def _score(name: str, value: float, margin: float, least: float) -> Score:
    return Score(
        name=name,
        value=_decimal(value),
        low=_decimal(max(least, value - margin)),
        high=_decimal(min(1.0, value + margin)),
    )


def _decimal(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # adding 0.0 turns -0.0 into 0.0
