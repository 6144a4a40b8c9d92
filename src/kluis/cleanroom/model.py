"""A logistic model of an outcome, scored by cross-validation for several sets of predictors.

Only scores leave: an AUC an arm, paired differences, and how many persons had the outcome and how many not,
each at least k. Coefficients, predictions and folds stay inside.
"""

from __future__ import annotations

import warnings
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kluis.cleanroom.agreement import Arm, ModelAnalysis
from kluis.cleanroom.documents import Document
from kluis.cleanroom.engine import AnalysisFailed
from kluis.cleanroom.score import Bits, Estimate, Floats, auc, bootstrap, estimate

Decimal = Annotated[str, msgspec.Meta(pattern=r"^-?[01]\.[0-9]{6}\Z")]


class Score(Document, frozen=True):
    """An AUC or a difference of two, with its 95 % interval; decimals as text, for canonical JSON."""

    name: str
    value: Decimal
    low: Decimal
    high: Decimal


class ModelResult(Document, frozen=True):
    """What leaves of a model.

    Attributes:
        persons, with_outcome: both, and their difference, at least k.
        arms: AUC of each arm.
        differences: of the pairs the agreement names, ``first - second``, over the same resamples.
    """

    persons: int
    with_outcome: int
    folds: int
    resamples: int
    arms: tuple[Score, ...]
    differences: tuple[Score, ...]


def run(analysis: ModelAnalysis, table: pl.DataFrame, k: int) -> ModelResult:
    """Fit and score every arm on the same persons and folds.

    Args:
        analysis: as agreed.
        table: one row a person; checked here.
        k: the fewest persons with the outcome, and without.

    Raises:
        AnalysisFailed: a person twice, an outcome that is not 0 or 1, or fewer than k of either.
    """
    if table[analysis.person].n_unique() != len(table):
        raise AnalysisFailed("analysis: want one row a person, got some twice", code="analysis_person_twice")
    if not table[analysis.outcome].drop_nulls().is_in([0, 1]).all() or table[analysis.outcome].null_count():
        raise AnalysisFailed("analysis: want an outcome of 0 or 1 in every row", code="analysis_outcome")
    table = table.sort(analysis.person)
    outcome: Bits = table[analysis.outcome].to_numpy().astype(np.bool_)
    ill = int(outcome.sum())
    if min(ill, len(outcome) - ill) < max(k, analysis.folds):
        raise AnalysisFailed(
            "analysis: fewer persons with or without the outcome than k", code="analysis_too_few"
        )
    scores = {arm.name: _cross_validated(analysis, arm, table, outcome) for arm in analysis.arms}
    drawn = bootstrap(outcome, scores, analysis.resamples, analysis.seed)
    point = {name: auc(outcome, each) for name, each in scores.items()}
    return ModelResult(
        persons=len(outcome),
        with_outcome=ill,
        folds=analysis.folds,
        resamples=analysis.resamples,
        arms=tuple(_score(name, estimate(point[name], drawn[name])) for name in scores),
        differences=tuple(
            _score(f"{a} - {b}", estimate(point[a] - point[b], drawn[a] - drawn[b]))
            for a, b in analysis.compare
        ),
    )


def _cross_validated(analysis: ModelAnalysis, arm: Arm, table: pl.DataFrame, outcome: Bits) -> Floats:
    """Each person's predicted chance, from models fitted without that person."""
    values = table.select(pl.col(name).cast(pl.Float64) for name in arm.predictors).to_numpy()
    # A value that is missing says something of why nobody measured it: its absence is a predictor too.
    model = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    folds = StratifiedKFold(analysis.folds, shuffle=True, random_state=analysis.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted = cross_val_predict(model, values, outcome, cv=folds, method="predict_proba", n_jobs=1)
    chances: Floats = np.asarray(predicted[:, 1], dtype=np.float64)
    return chances


def _score(name: str, found: Estimate) -> Score:
    return Score(name=name, value=_decimal(found.value), low=_decimal(found.low), high=_decimal(found.high))


def _decimal(value: float) -> str:
    return f"{round(value, 6) + 0.0:.6f}"  # adding 0.0 turns -0.0 into 0.0
