"""AUC and its interval, against the library that everyone uses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kluis.cleanroom.score import auc, bootstrap, estimate

GENERATOR = np.random.default_rng(7)
OUTCOME = GENERATOR.random(500) < 0.3
SMOOTH = OUTCOME * 0.5 + GENERATOR.random(500)


@pytest.mark.parametrize(
    "scores", [SMOOTH, np.round(SMOOTH, 1), np.zeros(500)], ids=["smooth", "ties", "constant"]
)
def test_auc(scores: np.ndarray) -> None:
    """The same number as scikit-learn's, ties counting half."""
    assert auc(OUTCOME, scores) == pytest.approx(roc_auc_score(OUTCOME, scores), abs=1e-12)


def test_bootstrap_is_of_persons() -> None:
    """Each resample's AUC is that of the persons drawn, counted as often as they were."""
    drawn = bootstrap(OUTCOME, {"a": SMOOTH}, 70, 3)["a"]
    generator = np.random.default_rng(3)
    for value in drawn:
        who = generator.integers(0, 500, 500)
        assert value == pytest.approx(roc_auc_score(OUTCOME[who], SMOOTH[who]), abs=1e-12)


def test_bootstrap_is_paired() -> None:
    """Two arms with the same scores differ by nothing in every resample, and the draws repeat."""
    one = bootstrap(OUTCOME, {"a": SMOOTH, "b": SMOOTH}, 100, 3)
    assert (one["a"] - one["b"] == 0).all()
    assert (bootstrap(OUTCOME, {"a": SMOOTH}, 100, 3)["a"] == one["a"]).all()


def test_interval() -> None:
    """The interval holds the value, and is wider for fewer persons."""
    wide = estimate(
        auc(OUTCOME[:100], SMOOTH[:100]), bootstrap(OUTCOME[:100], {"a": SMOOTH[:100]}, 400, 1)["a"]
    )
    narrow = estimate(auc(OUTCOME, SMOOTH), bootstrap(OUTCOME, {"a": SMOOTH}, 400, 1)["a"])
    assert narrow.low < narrow.value < narrow.high
    assert narrow.high - narrow.low < wide.high - wide.low
