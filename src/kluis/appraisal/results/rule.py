"""A rule of a policy with its outcome."""

from __future__ import annotations

from typing import Self

from kluis.appraisal.aspects import Aspect
from kluis.frozen import frozen


@frozen(kw_only=True)
class Rule:
    """One rule of the policy with its outcome.

    Attributes:
        name: stable, snake_case.
        ok: whether the evidence meets it.
        want: what the policy requires.
        got: what the evidence has.
        fix: how to fix a failure; None if it is met.
        stale: whether a failure means old rather than wrong.
        aspect: of the attester that it describes; None if it describes the exchange.
        affirms: whether meeting it shows anything: a rule that accepts everything does not.
    """

    name: str
    ok: bool
    want: str
    got: str
    fix: str | None
    stale: bool = False
    aspect: Aspect | None = None
    affirms: bool = True

    @classmethod
    def of(
        cls,
        name: str,
        ok: bool,
        *,
        want: str,
        got: str,
        fix: str,
        stale: bool = False,
        aspect: Aspect | None = None,
        affirms: bool = True,
    ) -> Self:
        """Build a rule with its outcome; a met rule has no fix."""
        return cls(
            name=name,
            ok=ok,
            want=str(want),
            got=str(got),
            fix=None if ok else fix,
            stale=stale,
            aspect=aspect,
            affirms=affirms,
        )
