"""What a policy's table for one TEE holds: one field a line, each of which is a rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.forms import Form
from kluis.appraisal.policy.values import Value
from kluis.evidence.model import Claims, VendorClaims

V = TypeVar("V", bound=VendorClaims)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of a TEE's table.

    Attributes:
        key: in the policy.
        form: how its want is written.
        claim: what the evidence has; None where it has nothing.
        about: what it is, as a comment in the policy.
        rule: the name of the rule.
        aspect: of the trustworthiness vector.
        fix: what mends it, where the rule fails.
        drafted: whether a draft wants what the evidence has; else it wants anything.
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
    """Read a claim that only one maker's evidence has; of another maker's it is None."""

    def claim(claims: Claims) -> Value:
        return read(claims.vendor) if isinstance(claims.vendor, kind) else None

    return claim
