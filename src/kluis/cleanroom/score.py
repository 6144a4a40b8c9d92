"""Area under the ROC curve, and how sure one can be of it: a bootstrap over persons, arms paired.

An interval here is over persons, for the predictions that cross-validation made; it does not include
the spread of fitting the model again on other persons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]
_CHUNK = 64


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % percentile interval."""

    value: float
    low: float
    high: float


def auc(outcome: Bits, scores: Floats) -> float:
    """The chance that a person with the outcome scores above one without, ties counting half."""
    return float(_weighted(outcome, scores, np.ones((1, len(outcome))))[0])


def bootstrap(outcome: Bits, arms: dict[str, Floats], resamples: int, seed: int) -> dict[str, Floats]:
    """AUC of each arm on the same resamples of persons.

    Args:
        outcome: one a person.
        arms: each arm's score, in the same order of persons.
        resamples: how many draws, with replacement.
        seed: makes the draws repeatable; part of the agreement.

    Returns:
        For each arm, ``resamples`` values; the n-th of every arm is over the same persons, so that a
        difference of two is a paired one.
    """
    generator = np.random.default_rng(seed)
    people = len(outcome)
    drawn: dict[str, list[Floats]] = {name: [] for name in arms}
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        weights = np.stack(
            [np.bincount(generator.integers(0, people, people), minlength=people) for _ in range(size)]
        ).astype(np.float64)
        for name, scores in arms.items():
            drawn[name].append(_weighted(outcome, scores, weights))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def estimate(value: float, drawn: Floats) -> Estimate:
    """A value with the 2.5 and 97.5 percentiles of its resamples."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _weighted(outcome: Bits, scores: Floats, weights: Floats) -> Floats:
    """AUC for each row of weights; persons sorted once, tied scores taken together."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    weights = weights[:, order]
    with_outcome = np.where(outcome[order], weights, 0.0)
    ill = np.add.reduceat(with_outcome, starts, axis=1)
    well = np.add.reduceat(weights - with_outcome, starts, axis=1)
    below = np.cumsum(well, axis=1) - well
    pairs = ill.sum(axis=1) * well.sum(axis=1)
    wins: Floats = (ill * (below + well / 2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = np.where(pairs > 0, wins / pairs, np.nan)
    return result
