"""Appraisal: run every rule of a policy on verified claims, and return the result whatever it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from kluis.appraisal.policy.model import ByTable, Policy, ReportDataBinding
from kluis.appraisal.policy.wants import ANY, Any
from kluis.appraisal.results.result import AttestationResult, Verdict
from kluis.appraisal.rules import binding
from kluis.appraisal.rules.devices import UNBOUND, device_rules
from kluis.appraisal.rules.identity import identity_rules, within
from kluis.appraisal.rules.machine import machine_rules
from kluis.appraisal.rules.platform import platform_rules
from kluis.errors import UsageError
from kluis.evidence.model import Claims, TcbStatus, Tee
from kluis.evidence.verified import Verified
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import RuntimeData

CODE_KEYS = ("measurements", "signers", "registers")


def appraise(
    evidence: Verified[Claims],
    policy: Policy,
    *,
    nonce: bytes | None,
    runtime_data: bytes | None,
    launch_configuration: bytes | None,
    now: datetime,
    report_data: bytes | None = None,
    devices: Sequence[Verified[Claims]] = (),
) -> AttestationResult:
    """Judge verified evidence under ``policy``; all rules run.

    Args:
        evidence: from ``kluis.evidence.verify``.
        policy: the requirements.
        nonce: that the relying party made for this evidence, or None if its policy requires none.
        runtime_data: the document that accompanies a Kluis enclave's evidence, untrusted; None for other
            evidence.
        launch_configuration: of a Kluis enclave, untrusted; None for other evidence.
        now: aware.
        report_data: that the relying party requires, if its policy contains ``given``.
        devices: verified reports of the machine's devices, such as GPUs. The policy has a table for them, and
            ``runtime_data`` is the document that binds them to ``evidence``
            (:mod:`kluis.formats.kluis.devices`).

    Returns:
        A result without truth value: read it, or call its ``require``.

    Raises:
        UsageError: ``now`` is naive, or ``evidence`` or a device does not come from verification.
    """
    for each in (evidence, *devices):
        if not isinstance(each, Verified):
            raise UsageError(
                f"evidence: want Verified[Claims], got {type(each).__name__}",
                hint="pass the result of kluis.evidence.verify: bare claims are not verified",
            )
    for name, value in (("nonce", nonce), ("report_data", report_data)):
        if not isinstance(value, bytes | None):
            raise UsageError(
                f"{name}: want bytes, got {type(value).__name__}", hint="bytes.fromhex of its hex"
            )
    if now.tzinfo is None:
        raise UsageError("now: want an aware time, got a naive one")
    claims = evidence.value
    rules = [*platform_rules(claims, policy, now), *identity_rules(claims, policy.identity)]
    rules += machine_rules(claims, policy.machine, now)
    runtime: RuntimeData | None = None
    launched: LaunchConfiguration | None = None
    if isinstance(policy.binding, ReportDataBinding):
        rules += binding.report_data_rules(claims, policy.binding, nonce, report_data)
    else:
        runtime, why = binding.runtime(claims, runtime_data)
        rules += binding.runtime_rules(claims, policy.binding, runtime, why, nonce)
        launched, why = binding.find_launch_configuration(claims, launch_configuration)
        rules += binding.launch_rules(claims, policy.binding, launched, why)
    if devices:
        rules += device_rules(claims, [each.value for each in devices], policy, runtime_data, nonce, now)
    warnings = tuple(_warnings(claims, policy, launched, bound_by_devices=bool(devices)))
    if not all(rule.ok for rule in rules):
        verdict = Verdict.CONTRAINDICATED
    else:
        verdict = Verdict.WARNING if warnings else Verdict.AFFIRMING
    return AttestationResult(
        verdict=verdict,
        rules=tuple(rules),
        warnings=warnings,
        policy=policy,
        claims=claims,
        runtime_data=runtime,
        launch=launched,
        appraised_at=now,
    )


def _warnings(
    claims: Claims, policy: Policy, launched: LaunchConfiguration | None, *, bound_by_devices: bool
) -> Iterator[str]:
    if claims.tee is Tee.NVIDIA:
        yield UNBOUND
    if claims.debug:
        yield "a debug enclave keeps nothing from its host"
    if claims.tcb.status not in (TcbStatus.UP_TO_DATE, TcbStatus.NOT_JUDGED):
        yield f"the platform is {claims.tcb.status}: " + (
            ", ".join(claims.tcb.advisories) or "no advisory named"
        )
    bound = policy.binding
    unbound = isinstance(bound, ReportDataBinding) and bound.report_data in (ANY, b"") and not bound.nonce
    if unbound and not bound_by_devices:
        yield "the policy binds this evidence to nothing: it may be a replay, or another's"
    if isinstance(policy.identity, ByTable):
        tables = [policy.identity.tables.get(part.tee, {}) for part in within(claims)]
        wants = [want for table in tables for key, want in table.items() if key in CODE_KEYS]
        if wants and all(isinstance(want, Any) for want in wants):
            yield "the policy accepts any code"
    if policy.machine and policy.machine.any_guest:
        yield "the policy accepts any guest: the operator of the machine chooses its kernel, which reads all"
    if claims.machine and claims.machine.missing:
        yield "the machine runs without " + ", ".join(claims.machine.missing)
    if launched and launched.missing:
        yield "launched without " + ", ".join(launched.missing)
    if launched:
        for grant in launched.grants:
            if grant.startswith("insecure_"):
                yield f"granted {grant}"
