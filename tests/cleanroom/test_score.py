"""AUC and its uncertainty, against the library that everyone uses and against resampling."""

from __future__ import annotations

import numpy as np
import pytest

from kluis.cleanroom.score import auc, paired_variance, placements, single_variance

GENERATOR = np.random.default_rng(7)
OUTCOME = GENERATOR.random(500) < 0.3
SMOOTH = OUTCOME * 0.5 + GENERATOR.random(500)
OTHER = SMOOTH + GENERATOR.random(500) / 2


@pytest.mark.parametrize(
    "scores", [SMOOTH, np.round(SMOOTH, 1), np.zeros(500)], ids=["smooth", "ties", "constant"]
)
def test_auc(scores: np.ndarray) -> None:
    """The same number as scikit-learn's, ties counting half; from either class."""
    from sklearn.metrics import roc_auc_score  # a second to import: not where tests are collected

    placed = placements(OUTCOME, scores)
    assert auc(OUTCOME, placed) == pytest.approx(roc_auc_score(OUTCOME, scores), abs=1e-12)
    assert placed[~OUTCOME].mean() == pytest.approx(roc_auc_score(OUTCOME, scores), abs=1e-12)


def test_variances() -> None:
    """DeLong's is what resampling persons gives, within a tenth; Hanley and McNeil's errs to the wide."""
    drawn = []
    for _ in range(1000):
        who = np.concatenate(
            [GENERATOR.choice(np.flatnonzero(part), part.sum()) for part in (OUTCOME, ~OUTCOME)]
        )
        drawn.append([auc(OUTCOME[who], placements(OUTCOME[who], each[who])) for each in (SMOOTH, OTHER)])
    first, second = np.array(drawn).T
    found = paired_variance(OUTCOME, placements(OUTCOME, SMOOTH), placements(OUTCOME, OTHER))
    assert found**0.5 == pytest.approx((first - second).std(), rel=0.1)
    value = auc(OUTCOME, placements(OUTCOME, OTHER))
    ill = int(OUTCOME.sum())
    assert 0.95 < single_variance(value, ill, 500 - ill) ** 0.5 / second.std() < 1.3


def test_no_difference_has_no_variance() -> None:
    """Two arms with the same scores differ by nothing, in every resample."""
    placed = placements(OUTCOME, SMOOTH)
    assert paired_variance(OUTCOME, placed, placed) == 0
