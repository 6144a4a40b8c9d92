"""Attestation results: the outcome of an appraisal, rule by rule.

Tiers are those of EAR and AR4SI (IETF RATS), worst first. A result has no truth value: read it, or call its
``require``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Never

from kluis.appraisal.aspects import Aspect, Tier
from kluis.appraisal.policy.model import Policy
from kluis.appraisal.results import trustworthiness
from kluis.appraisal.results.rule import Rule
from kluis.errors import FreshnessError, PolicyError
from kluis.evidence.model import Claims, TcbStatus
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import RuntimeData
from kluis.frozen import frozen


class Verdict(enum.StrEnum):
    """The overall verdict, worst first."""

    CONTRAINDICATED = "contraindicated"
    WARNING = "warning"
    AFFIRMING = "affirming"


@frozen(kw_only=True)
class AttestationResult:
    """The judgement of one piece of evidence under one policy.

    Attributes:
        verdict: ``affirming`` if every rule is met and there are no warnings.
        rules: all of them, in the policy's order.
        warnings: what the policy accepts but a reader should see.
        policy: the policy applied.
        claims: verified.
        runtime_data: proven by the report data, or None.
        launch: proven by CONFIGID, or None.
        appraised_at: the time passed to appraisal.
    """

    verdict: Verdict
    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]
    policy: Policy
    claims: Claims
    runtime_data: RuntimeData | None
    launch: LaunchConfiguration | None
    appraised_at: datetime

    def __bool__(self) -> Never:
        raise TypeError("AttestationResult has no truth value: read .verdict, or call .require()")

    @property
    def failed(self) -> tuple[Rule, ...]:
        """The rules that the evidence does not meet."""
        return tuple(rule for rule in self.rules if not rule.ok)

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        if failed := self.failed:
            return f"{self.verdict} ({len(failed)} of {len(self.rules)} rules failed)"
        return f"{self.verdict} ({len(self.rules)} rules met)"

    @property
    def vector(self) -> Mapping[Aspect, int]:
        """The trustworthiness vector."""
        return trustworthiness.vector(self.rules, self.claims.level, vulnerable=not self.current)

    @property
    def current(self) -> bool:
        """Whether the platform is up to date according to its vendor, if the vendor publishes a judgement."""
        return self.claims.tcb.status in (TcbStatus.UP_TO_DATE, TcbStatus.NOT_JUDGED)

    @property
    def status(self) -> Tier:
        """The verdict, or the worst number of the vector if that is worse.

        A policy may accept a weak protection level, and a reader of the status does not have the policy.
        """
        tiers = [Tier(self.verdict.value), *map(trustworthiness.tier, self.vector.values())]
        return min(tiers, key=list(Tier).index)

    @property
    def not_kept_out(self) -> tuple[str, ...]:
        """What this protection level does not keep out, and the known breaks of this platform."""
        from kluis.evidence import denylist  # loads AMD's claims, which other evidence does not need

        return denylist.not_kept_out(self.claims)

    def _repr_html_(self) -> str:
        """The verdict, each rule, and what the level does not keep out, for a notebook."""
        from kluis.cards import card  # only a notebook needs it

        rules = [
            (f"{'met' if rule.ok else 'FAILS'}: {rule.name}", f"want {rule.want}, got {rule.got}")
            for rule in sorted(self.rules, key=lambda rule: rule.ok)
        ]
        level = f"protection level {self.claims.level}, signed under {self.claims.anchor}"
        notes = [*self.warnings, *(f"not kept out: {each}" for each in self.not_kept_out)]
        return card(f"{self.summary}; {level}", rules, notes)

    def require(self) -> None:
        """Raise unless every rule is met.

        Raises:
            FreshnessError: every failed rule is about staleness.
            PolicyError: another rule fails; the message lists each rule, want and got.
        """
        failed = self.failed
        if not failed:
            return
        message = f"{self.verdict}: " + "; ".join(
            f"{rule.name}: want {rule.want}, got {rule.got}" for rule in failed
        )
        error = FreshnessError if all(rule.stale for rule in failed) else PolicyError
        raise error(message, hint=failed[0].fix, code=failed[0].name)
