"""Appraisal: every rule of a policy, run on verified claims. It returns; it does not raise.

What a hostile host hands in beside the evidence is judged, too: a document that the evidence does
not prove fails its rule, and every rule that would read it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from kluis.appraisal.policy import ByImage, Policy, ReportDataBinding, RuntimeBinding
from kluis.appraisal.result import AttestationResult, Rule, Verdict
from kluis.errors import FormatError
from kluis.evidence.model import Claims, TcbStatus
from kluis.evidence.verified import Verified
from kluis.formats import launch, runtime_data
from kluis.formats.launch import LaunchConfiguration
from kluis.formats.runtime_data import RuntimeData

UNPROVEN: Final = "a document that the evidence does not prove"
ABSENT: Final = "none"
EMULATED: Final = "Kluis emulated"


def appraise(
    evidence: Verified[Claims],
    policy: Policy,
    *,
    nonce: bytes | None,
    runtime_data: bytes | None,
    launch_configuration: bytes | None,
    now: datetime,
) -> AttestationResult:
    """Judge verified evidence under ``policy``; all rules run.

    Args:
        evidence: as ``kluis.evidence.verify`` gave it.
        policy: what is wanted.
        nonce: that the relying party made for this evidence, or None.
        runtime_data: the document beside the evidence, from anybody.
        launch_configuration: likewise.
        now: aware.

    Returns:
        A result without truth value: read it, or call its ``require``.
    """
    claims = evidence.value
    rules = [*_platform_rules(claims, policy, now), *_identity_rules(claims, policy)]
    runtime: RuntimeData | None = None
    launched: LaunchConfiguration | None = None
    if isinstance(policy.binding, ReportDataBinding):
        rules.append(_report_data_rule(claims, policy.binding.report_data))
    else:
        runtime, why = _runtime(claims, runtime_data)
        rules += _runtime_rules(claims, policy.binding, runtime, why, nonce)
        launched, why = _launch(claims, launch_configuration)
        rules += _launch_rules(claims, policy.binding, launched, why)
    warnings = tuple(_warnings(claims, launched))
    if not all(rule.ok for rule in rules):
        verdict = Verdict.CONTRAINDICATED
    else:
        verdict = Verdict.WARNING if warnings else Verdict.AFFIRMING
    return AttestationResult(
        verdict=verdict,
        rules=tuple(rules),
        warnings=warnings,
        claims=claims,
        runtime_data=runtime,
        launch=launched,
        appraised_at=now,
    )


def short(data: bytes) -> str:
    """``data`` in hex, cut in the middle where it is long."""
    text = data.hex()
    return text if len(text) <= 20 else f"{text[:8]}..{text[-4:]}"


def _platform_rules(claims: Claims, policy: Policy, now: datetime) -> Iterator[Rule]:
    tcb = claims.tcb
    yield _rule(
        "protection",
        claims.level in policy.protection,
        want=_either(policy.protection),
        got=claims.level,
        fix="run it where the platform gives that level, or accept this one in the policy",
    )
    yield _rule(
        "debug",
        policy.debug or not claims.debug,
        want="on or off" if policy.debug else "off",
        got="on" if claims.debug else "off",
        fix="build without --debug",
    )
    yield _rule(
        "tcb_status",
        tcb.status in policy.tcb_statuses,
        want=_either(policy.tcb_statuses),
        got=tcb.status,
        fix="update the platform and certify it anew: kluis platform recover",
    )
    unaccepted = set() if tcb.status is TcbStatus.UP_TO_DATE else set(tcb.advisories) - policy.advisories
    yield _rule(
        "advisories",
        not unaccepted,
        want=f"only {_either(policy.advisories)}" if policy.advisories else "none",
        got=", ".join(sorted(unaccepted)) or ABSENT,
        fix="update the platform, or accept the advisories in the policy",
    )
    yield _rule(
        "tcb_evaluation",
        (tcb.evaluation or 0) >= policy.min_evaluation,
        want=f"at least {policy.min_evaluation}",
        got=ABSENT if tcb.evaluation is None else str(tcb.evaluation),
        fix="fetch newer collateral",
        stale=True,
    )
    issued = claims.collateral_issued
    yield _rule(
        "collateral_age",
        issued is None or now - issued <= policy.max_collateral_age,
        want=f"at most {_shown(policy.max_collateral_age)}",
        got="no collateral with a date" if issued is None else _shown(now - issued),
        fix="fetch newer collateral",
        stale=True,
    )
    age = now - claims.verified_at
    yield _rule(
        "evidence_age",
        timedelta(0) <= age <= policy.max_evidence_age and now <= claims.valid_until,
        want=f"at most {_shown(policy.max_evidence_age)} since verified, valid at {now:%Y-%m-%dT%H:%MZ}",
        got=f"{_shown(age)}, valid until {claims.valid_until:%Y-%m-%dT%H:%MZ}",
        fix="verify the evidence again, with collateral that is in date",
        stale=True,
    )


def _identity_rules(claims: Claims, policy: Policy) -> Iterator[Rule]:
    identity = policy.identity
    if isinstance(identity, ByImage):
        yield _rule(
            "measurement",
            claims.measurement.value in identity.image_ids,
            want=_either(map(short, identity.image_ids)),
            got=short(claims.measurement.value),
            fix="kluis diff says what changed between two images",
        )
        return
    yield _rule(
        "signer",
        claims.signer is not None and claims.signer.value in identity.signers,
        want=_either(map(short, identity.signers)),
        got=short(claims.signer.value) if claims.signer else ABSENT,
        fix="sign the image with the key that the policy names",
    )
    yield _rule(
        "product_id",
        claims.product_id == identity.product_id,
        want=str(identity.product_id),
        got=ABSENT if claims.product_id is None else str(claims.product_id),
        fix="this is another product of the same signer",
    )
    yield _rule(
        "svn",
        claims.svn is not None and claims.svn >= identity.min_svn,
        want=f"at least {identity.min_svn}",
        got=ABSENT if claims.svn is None else str(claims.svn),
        fix="run a newer version of the image",
    )


def _report_data_rule(claims: Claims, want: bytes) -> Rule:
    return _rule(
        "report_data",
        hmac.compare_digest(claims.report_data, want),
        want=short(want),
        got=short(claims.report_data),
        fix="the evidence was made for something else: ask for new evidence",
    )


def _runtime(claims: Claims, document: bytes | None) -> tuple[RuntimeData | None, str]:
    if document is None:
        return None, ABSENT
    if not hmac.compare_digest(runtime_data.report_data(document), claims.report_data):
        return None, UNPROVEN
    try:
        return RuntimeData.parse(document), ""
    except FormatError as error:
        return None, error.message


def _runtime_rules(
    claims: Claims, binding: RuntimeBinding, runtime: RuntimeData | None, why: str, nonce: bytes | None
) -> Iterator[Rule]:
    yield _rule(
        "runtime_data",
        runtime is not None,
        want=f"the document of report data {short(claims.report_data)}",
        got=why or "it",
        fix="give the runtime data that came with this evidence: --runtime",
    )
    yield _rule(
        "purpose",
        runtime is not None and runtime.purpose is binding.purpose,
        want=binding.purpose,
        got=runtime.purpose if runtime else why,
        fix="evidence for one purpose is never good for another: ask for new evidence",
    )
    if claims.anchor.startswith(EMULATED):
        yield _rule(
            "runtime_image",
            runtime is not None and hmac.compare_digest(runtime.image_id, claims.measurement.value),
            want=short(claims.measurement.value),
            got=short(runtime.image_id) if runtime else why,
            fix="the runtime data speaks of another image: ask for new evidence",
        )
    if binding.nonce:
        known = nonce is not None and len(nonce) > 0
        yield _rule(
            "nonce",
            known and runtime is not None and hmac.compare_digest(runtime.nonce, nonce or b""),
            want=short(nonce) if nonce else "one, and the relying party gave none",
            got=short(runtime.nonce) or ABSENT if runtime else why,
            fix="ask for new evidence over your own nonce" if known else "give the nonce you made: --nonce",
            stale=True,
        )


def _launch(claims: Claims, document: bytes | None) -> tuple[LaunchConfiguration | None, str]:
    if document is None:
        return None, ABSENT
    if claims.config_id is None or not hmac.compare_digest(launch.config_id(document), claims.config_id):
        return None, UNPROVEN
    try:
        return LaunchConfiguration.parse(document), ""
    except FormatError as error:
        return None, error.message


def _launch_rules(
    claims: Claims, binding: RuntimeBinding, launched: LaunchConfiguration | None, why: str
) -> Iterator[Rule]:
    yield _rule(
        "launch_configuration",
        launched is not None,
        want="the document of CONFIGID "
        + (short(claims.config_id) if claims.config_id else "(none: KSS is off)"),
        got=why or "it",
        fix="give the launch configuration that came with this evidence: --launch",
    )
    lacks = set(launched.missing) - binding.missing if launched else set()
    yield _rule(
        "missing",
        launched is not None and not lacks,
        want=f"only {_either(binding.missing)}" if binding.missing else "none",
        got=(", ".join(sorted(lacks)) or ABSENT) if launched else why,
        fix="kluis doctor says how this machine gets them",
    )
    yield _rule(
        "counter",
        launched is not None and launched.counter in binding.counters,
        want=_either(binding.counters),
        got=launched.counter if launched else why,
        fix="give the platform a witness, or accept rollback across restarts in the policy",
    )
    grants = {grant for grant in launched.grants if grant.startswith("insecure_")} if launched else set()
    yield _rule(
        "insecure",
        launched is not None and grants <= binding.insecure,
        want=f"only {_either(binding.insecure)}" if binding.insecure else "none",
        got=(", ".join(sorted(grants - binding.insecure)) or ABSENT) if launched else why,
        fix="build the image without the grant, or accept it in the policy",
    )
    if not claims.debug:
        yield _rule(
            "launch_level",
            launched is not None and launched.level == claims.level,
            want=claims.level,
            got=launched.level if launched else why,
            fix="the platform and its certificate disagree: make its root anew",
        )


def _warnings(claims: Claims, launched: LaunchConfiguration | None) -> Iterator[str]:
    if claims.debug:
        yield "a debug enclave keeps nothing from its host"
    if claims.tcb.status is not TcbStatus.UP_TO_DATE:
        yield f"the platform is {claims.tcb.status}: " + (
            ", ".join(claims.tcb.advisories) or "no advisory named"
        )
    if launched and launched.missing:
        yield "launched without " + ", ".join(launched.missing)
    if launched:
        for grant in launched.grants:
            if grant.startswith("insecure_"):
                yield f"granted {grant}"


def _rule(name: str, ok: bool, *, want: str, got: str, fix: str, stale: bool = False) -> Rule:
    return Rule(name=name, ok=ok, want=str(want), got=str(got), fix=None if ok else fix, stale=stale)


def _either(values: Iterable[str]) -> str:
    return " or ".join(sorted(map(str, values)))


def _shown(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    if abs(seconds) < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if abs(minutes) < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if abs(hours) < 96 else f"{hours // 24} days"
