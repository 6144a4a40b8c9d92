"""Logistic regression, against the library that everyone uses."""

from __future__ import annotations

import numpy as np
import pytest

from kluis.cleanroom.analyses import logistic

GENERATOR = np.random.default_rng(3)
VALUES = GENERATOR.uniform(-1.73, 1.73, (400, 3))
NOISY = VALUES @ [1.0, -2.0, 0.0] + GENERATOR.logistic(0, 1, 400) > 0.5


@pytest.mark.parametrize(
    "outcome",
    [NOISY, VALUES[:, 0] > 0, VALUES[:, 0] > 1.72, GENERATOR.random(400) < 0.01],
    ids=["noisy", "separable", "separable and rare", "rare"],
)
def test_fit(outcome: np.ndarray) -> None:
    """The same weights as scikit-learn's, where one class is rare or a line tells them apart, too."""
    from sklearn.linear_model import LogisticRegression  # a second to import: not where tests are collected

    model = LogisticRegression(tol=1e-10, max_iter=10_000).fit(VALUES, outcome)
    found = logistic.fit(VALUES, outcome, np.ones(400))
    assert found == pytest.approx([*model.intercept_, *model.coef_[0]], abs=1e-3)
    assert logistic.predict(found, VALUES) == pytest.approx(model.decision_function(VALUES), abs=5e-3)


def test_persons_that_count_for_several() -> None:
    """Shares are scikit-learn's sample weights."""
    from sklearn.linear_model import LogisticRegression

    shares = GENERATOR.exponential(1, 400)
    model = LogisticRegression(tol=1e-10, max_iter=10_000).fit(VALUES, NOISY, sample_weight=shares)
    assert logistic.fit(VALUES, NOISY, shares) == pytest.approx(
        [*model.intercept_, *model.coef_[0]], abs=1e-3
    )


@pytest.mark.parametrize("outcome", [np.zeros(400, bool), np.ones(400, bool)])
def test_one_class(outcome: np.ndarray) -> None:
    """A fold in which nobody, or everybody, has the outcome still gives finite scores."""
    assert np.isfinite(logistic.predict(logistic.fit(VALUES, outcome, np.ones(400)), VALUES)).all()
