"""AUC and its uncertainty, against the library that everyone uses and against resampling."""

from __future__ import annotations

import numpy as np
import pytest

from kluis.cleanroom.analyses.score import NEAR, auc, paired_variance, placements, single_variance

GENERATOR = np.random.default_rng(7)
OUTCOME = GENERATOR.random(500) < 0.3
SMOOTH = OUTCOME * 0.5 + GENERATOR.random(500)
OTHER = SMOOTH + GENERATOR.random(500) / 2


@pytest.mark.parametrize(
    "scores", [SMOOTH, np.round(SMOOTH, 1), np.zeros(500)], ids=["smooth", "ties", "constant"]
)
def test_auc(scores: np.ndarray) -> None:
    """The same number as scikit-learn's where all are far apart, ties counting half; from either class."""
    from sklearn.metrics import roc_auc_score  # a second to import: not where tests are collected

    placed = placements(OUTCOME, scores * 1e6)
    assert auc(OUTCOME, placed) == pytest.approx(roc_auc_score(OUTCOME, scores), abs=1e-12)
    assert placed[~OUTCOME].mean() == pytest.approx(roc_auc_score(OUTCOME, scores), abs=1e-12)


@pytest.mark.parametrize("scores", [SMOOTH, SMOOTH * 5 - 100, np.round(SMOOTH, 1), np.zeros(500)])
def test_near_pairs_count_in_part(scores: np.ndarray) -> None:
    """As over all pairs, one by one."""
    apart = scores[OUTCOME][:, None] - scores[~OUTCOME][None, :]
    want = np.clip(0.5 + apart / (2 * NEAR), 0, 1)
    placed = placements(OUTCOME, scores)
    assert placed[OUTCOME] == pytest.approx(want.mean(axis=1), abs=1e-9)
    assert placed[~OUTCOME] == pytest.approx(want.mean(axis=0), abs=1e-9)


@pytest.mark.parametrize("size", [1e-9, 0.01, 0.3])
def test_scores_that_move_a_little(size: float) -> None:
    """An AUC moves by at most a share of it, also where all scores were alike and their order is turned."""
    for scores in (np.zeros(500), SMOOTH, SMOOTH * 1000):
        whole = auc(OUTCOME, placements(OUTCOME, scores))
        for way in (size * np.where(OUTCOME, 1, -1), -size * SMOOTH / SMOOTH.max()):
            assert abs(auc(OUTCOME, placements(OUTCOME, scores + way)) - whole) <= size / NEAR + 1e-9


def test_variances() -> None:
    """DeLong's is what resampling persons gives, within a tenth; Hanley and McNeil's errs to the wide."""
    drawn, apart = [], (SMOOTH * 4, OTHER * 4)
    for _ in range(1000):
        who = np.concatenate(
            [GENERATOR.choice(np.flatnonzero(part), part.sum()) for part in (OUTCOME, ~OUTCOME)]
        )
        drawn.append([auc(OUTCOME[who], placements(OUTCOME[who], each[who])) for each in apart])
    first, second = np.array(drawn).T
    found = paired_variance(OUTCOME, *(placements(OUTCOME, each) for each in apart))
    assert found**0.5 == pytest.approx((first - second).std(), rel=0.1)
    value = auc(OUTCOME, placements(OUTCOME, apart[1]))
    ill = int(OUTCOME.sum())
    assert 0.95 < single_variance(value, ill, 500 - ill) ** 0.5 / second.std() < 1.3


def test_no_difference_has_no_variance() -> None:
    """Two arms with the same scores differ by nothing, in every resample."""
    placed = placements(OUTCOME, SMOOTH)
    assert paired_variance(OUTCOME, placed, placed) == 0
