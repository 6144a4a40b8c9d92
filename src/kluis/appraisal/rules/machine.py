"""Rules on the machine around an enclave: its evidence, and what its guest states."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.model import ByMachine
from kluis.appraisal.policy.values import ABSENT, either
from kluis.appraisal.policy.wants import Any
from kluis.appraisal.results.rule import Rule
from kluis.appraisal.rules.identity import identity_rules, within
from kluis.appraisal.rules.platform import format_age
from kluis.evidence.model import Claims, Machine
from kluis.formats.encoding.brief import short

NO_TABLE: Final = (
    "kluis policy init drafts [machine] from this evidence; without it a policy accepts no machine"
)
NO_MACHINE: Final = "run it in a machine that the policy names, or remove [machine] from the policy"
OTHER_TEE: Final = "run it in a machine of a TEE that the policy names"


def machine_rules(claims: Claims, wanted: ByMachine | None, now: datetime) -> Iterator[Rule]:
    """One rule for every key of the table; none if neither policy nor evidence has a machine."""
    machine = claims.machine
    if wanted is None and machine is None:
        return
    tees = wanted.identity.whole if wanted else ()
    parts = [part.tee for part in within(machine.claims)] if machine else []
    fix = NO_TABLE if wanted is None else NO_MACHINE if machine is None else OTHER_TEE
    yield Rule.of(
        "machine",
        wanted is not None
        and bool(parts)
        and parts[0] in tees
        and wanted.identity.tables.keys() >= set(parts),
        want=either(tees) or ABSENT,
        got=" on ".join(parts) or ABSENT,
        fix=fix,
        aspect=Aspect.HARDWARE,
        affirms=False,
    )
    if wanted is None or machine is None:
        return
    for rule in identity_rules(machine.claims, wanted.identity):
        yield dataclasses.replace(rule, name=f"machine_{rule.name}")
    yield from _judge_statements(machine, wanted, now)


def _judge_statements(machine: Machine, wanted: ByMachine, now: datetime) -> Iterator[Rule]:
    """What the guest states, which its measurement makes trustworthy; and the age of the collateral."""
    only = wanted.only
    yield Rule.of(
        "machine_only",
        isinstance(only, Any) or machine.only in only,
        want="any" if isinstance(only, Any) else either(map(short, only)),
        got=short(machine.only) if machine.only else "any image",
        fix="start a machine that runs only this image: --only",
        aspect=Aspect.CONFIGURATION,
        affirms=not isinstance(only, Any),
    )
    releases = wanted.guest_releases
    yield Rule.of(
        "machine_guest_release",
        isinstance(releases, Any) or machine.release in releases,
        want="any" if isinstance(releases, Any) else either(releases),
        got=machine.release or ABSENT,
        fix="start the release of the guest that the policy names",
        aspect=Aspect.EXECUTABLES,
        affirms=False,
    )
    yield Rule.of(
        "machine_level",
        machine.level in wanted.levels,
        want=either(wanted.levels),
        got=machine.level,
        fix="run the platform in the machine as root",
        aspect=Aspect.CONFIGURATION,
    )
    lacks = set(machine.missing) - wanted.missing
    yield Rule.of(
        "machine_missing",
        not lacks,
        want=f"only {either(wanted.missing)}" if wanted.missing else "none",
        got=", ".join(sorted(lacks or machine.missing)) or ABSENT,
        fix="start the machine where it has them, or accept in [machine] that they are missing",
        aspect=Aspect.CONFIGURATION,
    )
    issued, most = machine.claims.collateral_issued, wanted.max_collateral_age
    yield Rule.of(
        "machine_collateral_age",
        isinstance(most, Any) or (issued is not None and now - issued <= most),
        want="any" if isinstance(most, Any) else f"at most {format_age(most)}",
        got="no collateral with a date" if issued is None else format_age(now - issued),
        fix="have the platform in the machine fetch newer collateral, and endorse its root again",
        stale=True,
        aspect=Aspect.HARDWARE,
        affirms=False,
    )
