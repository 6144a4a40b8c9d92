"""One rule of a policy, and what it found."""

from __future__ import annotations

import dataclasses
from typing import Self

from kluis.appraisal.aspects import Aspect


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the policy, and what it found.

    Attributes:
        name: stable, snake_case.
        ok: whether the evidence meets it.
        want: what the policy asks.
        got: what the evidence has.
        fix: what would mend it; None where it is met.
        stale: whether failing it means old rather than wrong.
        aspect: of the attester that it speaks of; None where it speaks of the exchange.
        affirms: whether meeting it says anything: a rule that accepts everything does not.
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
        """A rule and its finding; a rule that is met needs no fix."""
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
