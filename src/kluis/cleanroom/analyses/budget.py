"""The limit on the number of figures that all analyses of an agreement publish together.

A figure is one published number or group key. They are counted before signing, and again inside.
"""

from __future__ import annotations

import math

from kluis.cleanroom.agreement.agreement import Agreement, Analysis, ModelAnalysis, SqlAnalysis
from kluis.cleanroom.agreement.terms import strictest_k
from kluis.errors import PolicyError

FIGURES_PER_K = 100
PERSONS_PER_PREDICTOR = 20
_COUNTS = 2


def scores_of(agreement: Agreement) -> int:
    """The scores that all models publish with separate noise: AUCs, and margins of differences."""
    return sum(len(each.arms) + len(each.compare) for each in _models(agreement))


def models_of(agreement: Agreement) -> int:
    """How many models an agreement has."""
    return len(_models(agreement))


def figures_of(analysis: Analysis) -> int:
    """The most figures that one analysis publishes.

    Raises:
        QueryError: its query cannot be read.
    """
    if isinstance(analysis, ModelAnalysis):
        return _COUNTS + len(analysis.arms) + len(analysis.compare)
    return analysis.max_rows * columns_of(analysis)


def columns_of(analysis: SqlAnalysis) -> int:
    """The number of columns in a query's answer.

    Raises:
        QueryError: it cannot be read.
    """
    from kluis.cleanroom.query.syntax import parse  # heavy: an enclave that only begins does not need it

    return len(parse(analysis.query).expressions)


def width(k: int, models: int) -> float:
    """The deviation of the noise on a model's counts, in persons; it grows with the number of models that
    publish counts.
    """
    return k * math.sqrt(models)


def enough(k: int, models: int, predictors: int) -> float:
    """The minimum noisy count of persons, with the outcome and without, for a model's scores to be published.

    Args:
        k: the fewest persons.
        models: of the agreement.
        predictors: of the model's widest arm. With fewer persons for each of them, one person decides the
            fit.
    """
    return max(k + 3 * width(k, models), PERSONS_PER_PREDICTOR * predictors)


def reach(predictors: int) -> float:
    """The factor by which one person moves an AUC further through fitting this many predictors, as measured.

    A predictor is two columns: its ranks, and which are missing.
    """
    return math.sqrt(1 + 2 * predictors / 4)


def predictors_of(analysis: ModelAnalysis) -> int:
    """The number of predictors in the widest arm of a model."""
    return max(len(each.predictors) for each in analysis.arms)


def most_figures(agreement: Agreement) -> int:
    """The limit: 100 for each person of the least group of any analysis."""
    least = [
        strictest_k(agreement.k_min, tuple(agreement.dataset(name).terms for name in each.inputs))
        for each in agreement.analyses
    ]
    return FIGURES_PER_K * min(least)


def total_figures(agreement: Agreement) -> int:
    """The most figures that all analyses publish together; repeated runs publish the same ones."""
    return sum(figures_of(each) for each in agreement.analyses)


def check(agreement: Agreement) -> None:
    """Refuse an agreement that publishes too much.

    Raises:
        PolicyError: more figures than the limit, or an arm that is named twice or not at all.
    """
    for each in _models(agreement):
        arms = [arm.name for arm in each.arms]
        unknown = sorted({name for pair in each.compare for name in pair} - set(arms))
        if unknown or len(set(arms)) != len(arms) or len(set(each.compare)) != len(each.compare):
            raise PolicyError(
                f"analysis {each.id}: want each arm and pair once and pairs of {sorted(set(arms))}, "
                f"got unknown {unknown}",
                code="agreement",
            )
    total, most = total_figures(agreement), most_figures(agreement)
    if total > most:
        parts = ", ".join(f"{each.id} {figures_of(each)}" for each in agreement.analyses)
        raise PolicyError(
            f"agreement: want at most {most} published figures, got {total} ({parts})",
            hint="lower max_rows, select fewer columns, or leave an analysis out",
            code="figures",
        )


def _models(agreement: Agreement) -> tuple[ModelAnalysis, ...]:
    return tuple(each for each in agreement.analyses if isinstance(each, ModelAnalysis))
