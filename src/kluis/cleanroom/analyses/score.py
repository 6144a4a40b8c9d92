"""Area under the ROC curve, and its uncertainty over persons.

Every score is a mean over placements: the share of the other class against which a person is ranked
correctly. A pair whose log-odds differ by less than ``NEAR`` counts in part. An AUC in the strict sense
depends only on the order: if a model predicts little, one person can turn the sign of a weight, and with it
the order of all pairs. The intervals do not include the variance of fitting the model again on other persons.

Spec: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; Hanley and McNeil, Radiology 1982.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]
NEAR = 0.5  # of log-odds: a factor of 1.65


def placements(outcome: Bits, scores: Floats) -> Floats:
    """For each person, the share of the other class on the correct side of its score; ties count half.

    Args:
        outcome: one for each person; both values occur.
        scores: one for each person, log-odds, finite.
    """
    placed = np.empty(len(outcome))
    ill, well = np.sort(scores[outcome]), np.sort(scores[~outcome])
    placed[outcome] = _below(well, scores[outcome])
    placed[~outcome] = 1 - _below(ill, scores[~outcome])
    return placed


def auc(outcome: Bits, placed: Floats) -> float:
    """The chance that a person with the outcome scores above one without; near ones count in part."""
    return float(placed[outcome].mean())


def paired_variance(outcome: Bits, first: Floats, second: Floats) -> float:
    """The variance of the difference of two AUCs over the same persons, from their placements (DeLong)."""
    apart = first - second
    return sum(float(part.var(ddof=1)) / len(part) for part in (apart[outcome], apart[~outcome]))


def single_variance(value: float, ill: float, well: float) -> float:
    """The variance of an AUC, from the AUC and the two counts only (Hanley and McNeil)."""
    first, second = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (ill - 1) * (first - value**2) + (well - 1) * (second - value**2)
    return max(0.0, spread) / (ill * well)


def _below(ordered: Floats, scores: Floats) -> Floats:
    """For each score, the share of the others below it; of those nearer than ``NEAR``, a part each."""
    least = np.searchsorted(ordered, scores - NEAR, "right")
    most = np.searchsorted(ordered, scores + NEAR, "left")
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    near = (most - least) * (0.5 + scores / (2 * NEAR)) - (sums[most] - sums[least]) / (2 * NEAR)
    shares: Floats = (least + near) / len(ordered)
    return shares
