"""Fields of a policy's table for one TEE: one per line, each a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.values import Value
from kluis.appraisal.policy.wants import Form
from kluis.evidence.model import Claims, VendorClaims
from kluis.frozen import frozen

V = TypeVar("V", bound=VendorClaims)


@frozen(kw_only=True)
class Field:
    """One key of a TEE's table.

    Attributes:
        key: in the policy.
        form: how its requirement is written.
        claim: the evidence's value; None if it has none.
        about: description, as a comment in the policy.
        rule: the name of the rule.
        aspect: of the trustworthiness vector.
        fix: how to fix a failure of the rule.
        drafted: whether a draft requires the evidence's value; else it accepts any.
    """

    key: str
    form: Form
    claim: Callable[[Claims], Value]
    about: str
    rule: str
    aspect: Aspect
    fix: str
    drafted: bool = True


def of(kind: type[V], read: Callable[[V], Value]) -> Callable[[Claims], Value]:
    """Read a claim that only one vendor's evidence has; None for other vendors' evidence."""

    def claim(claims: Claims) -> Value:
        return read(claims.vendor) if isinstance(claims.vendor, kind) else None

    return claim
