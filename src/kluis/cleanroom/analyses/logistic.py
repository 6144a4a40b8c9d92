"""Logistic regression with a ridge penalty, by Newton's method.

It uses a fixed number of steps, so that its duration does not depend on the values, and no warning is
written.

Spec: minimises ``sum(c log(1 + exp(-y (b + x w)))) + |w|^2 / 2``, scikit-learn's objective with C = 1.
"""

from __future__ import annotations

import numpy as np

from kluis.cleanroom.analyses.score import Bits, Floats

_STEPS = 15
_MOST = 30.0  # of a linear predictor: beyond it a chance is 0 or 1 to 13 digits


def fit(values: Floats, outcome: Bits, counts: Floats) -> Floats:
    """Fit the intercept and a weight a column.

    Args:
        values: a row a person, a column a predictor, of about unit spread; centred, or nearly.
        outcome: one a person.
        counts: as how many persons each one counts.
    """
    design = _with_intercept(values)
    penalty = np.ones(design.shape[1])
    penalty[0] = 1e-6  # an intercept of one class only would have no end
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -_MOST, _MOST)))
        slope = design.T @ (counts * (chance - outcome)) + penalty * weights
        curve = (design.T * (counts * chance * (1 - chance))) @ design + np.diag(penalty)
        weights = weights - np.linalg.solve(curve, slope)
    return weights


def predict(weights: Floats, values: Floats) -> Floats:
    """Each person's score: the logarithm of the odds."""
    scores: Floats = _with_intercept(values) @ weights
    return scores


def _with_intercept(values: Floats) -> Floats:
    return np.column_stack([np.ones(len(values)), values])
