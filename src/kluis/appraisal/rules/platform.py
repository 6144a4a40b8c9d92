"""Rules on the platform and its endorsements, the same for every TEE."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from datetime import timedelta

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.model import Policy
from kluis.appraisal.policy.values import ABSENT, either
from kluis.appraisal.policy.wants import Any
from kluis.appraisal.results.rule import Rule
from kluis.appraisal.rules.identity import within
from kluis.evidence.model import Claims, Tcb, TcbStatus
from kluis.formats.encoding.brief import until


def platform_rules(claims: Claims, policy: Policy, now: datetime.datetime) -> Iterator[Rule]:
    """Rules on level, debug, TCB and ages."""
    parts = [part.tee for part in within(claims)]
    yield Rule.of(
        "tee",
        policy.tees.issuperset(parts) and claims.tee in policy.whole,
        want=either(policy.whole),
        got=" on ".join(parts),
        fix="pass all evidence of the Azure VM, or a policy for this hardware only"
        if claims.tee in policy.tees - policy.whole
        else "give a policy that has a table for this TEE: kluis policy init drafts one from evidence",
        aspect=Aspect.HARDWARE,
        affirms=False,
    )
    yield Rule.of(
        "protection",
        claims.level in policy.protection,
        want=either(policy.protection),
        got=claims.level,
        fix="run it where the platform gives that level, or accept this one in the policy",
        aspect=Aspect.HARDWARE,
    )
    yield Rule.of(
        "debug",
        policy.debug or not claims.debug,
        want="on or off" if policy.debug else "off",
        got="on" if claims.debug else "off",
        fix="build without --debug",
        aspect=Aspect.CONFIGURATION,
        affirms=not policy.debug,
    )
    yield _denylist_rule(claims, policy)
    yield from _tcb_rules(claims.tcb, policy)
    yield from _age_rules(claims, policy, now)


def _denylist_rule(claims: Claims, policy: Policy) -> Rule:
    from kluis.evidence import denylist  # loads AMD's claims, which other evidence does not need

    denied = denylist.match(claims)
    return Rule.of(
        "denylist",
        not (policy.denylists and denied),
        want=f"a platform that is on no list of {denylist.reviewed_on()}" if policy.denylists else "any",
        got=", ".join(entry.id for entry in denied) or "on none",
        fix="; ".join(entry.fix for entry in denied),
        aspect=Aspect.HARDWARE,
        affirms=False,
    )


def _tcb_rules(tcb: Tcb, policy: Policy) -> Iterator[Rule]:
    yield Rule.of(
        "tcb_status",
        tcb.status in policy.tcb_statuses,
        want=either(policy.tcb_statuses),
        got=tcb.status,
        fix="update the platform; if it is emulated, certify it again: kluis platform certify",
        aspect=Aspect.HARDWARE,
    )
    accepted = policy.advisories
    unaccepted: set[str] = set()
    if tcb.status is not TcbStatus.UP_TO_DATE and not isinstance(accepted, Any):
        unaccepted = set(tcb.advisories) - accepted
    # List all of them if none is refused: a reader would understand "none" as a fixed platform.
    named = ", ".join(sorted(unaccepted or tcb.advisories)) or ABSENT
    fixed = tcb.status is TcbStatus.UP_TO_DATE and tcb.advisories
    yield Rule.of(
        "advisories",
        not unaccepted,
        want="any" if isinstance(accepted, Any) else f"only {either(accepted)}" if accepted else "none",
        got=f"{named}, fixed: UpToDate" if fixed else named,
        fix="update the platform, or accept the advisories in the policy",
        aspect=Aspect.HARDWARE,
        affirms=False,
    )
    least = policy.min_evaluation
    yield Rule.of(
        "tcb_evaluation",
        isinstance(least, Any) or (tcb.evaluation is not None and tcb.evaluation >= least),
        want="any" if isinstance(least, Any) else f"at least {least}",
        got=ABSENT if tcb.evaluation is None else str(tcb.evaluation),
        fix="fetch newer collateral",
        stale=True,
        aspect=Aspect.HARDWARE,
        affirms=False,
    )
    since = policy.min_tcb_date
    yield Rule.of(
        "tcb_date",
        isinstance(since, Any) or (tcb.date is not None and tcb.date.date() >= since),
        want="any" if isinstance(since, Any) else f"{since} or later",
        got=ABSENT if tcb.date is None else str(tcb.date.date()),
        fix="update the platform's firmware and microcode",
        stale=True,
        aspect=Aspect.HARDWARE,
        affirms=False,
    )


def _age_rules(claims: Claims, policy: Policy, now: datetime.datetime) -> Iterator[Rule]:
    issued, most = claims.collateral_issued, policy.max_collateral_age
    yield Rule.of(
        "collateral_age",
        isinstance(most, Any) or (issued is not None and now - issued <= most),
        want="any" if isinstance(most, Any) else f"at most {format_age(most)}",
        got="no collateral with a date" if issued is None else format_age(now - issued),
        fix="fetch newer collateral",
        stale=True,
        aspect=Aspect.HARDWARE,
        affirms=False,
    )
    age = now - claims.verified_at
    yield Rule.of(
        "evidence_age",
        timedelta(0) <= age <= policy.max_evidence_age and now <= claims.valid_until,
        want=f"at most {format_age(policy.max_evidence_age)} since verified, valid at {now:%Y-%m-%dT%H:%MZ}",
        got=f"{format_age(age)} since verified, valid {until(claims.valid_until, 'minutes')}",
        fix="verify the evidence again, with collateral that is in date",
        stale=True,
        affirms=False,
    )


def format_age(age: timedelta) -> str:
    """An age in the largest unit that is precise enough."""
    seconds = int(age.total_seconds())
    if abs(seconds) < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if abs(minutes) < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if abs(hours) < 96 else f"{hours // 24} days"
