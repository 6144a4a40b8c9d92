"""Draft a first policy from verified evidence: it requires what the evidence has."""

from __future__ import annotations

from datetime import timedelta

from kluis.appraisal.policy.guests import UNCERTAIN, open_keys
from kluis.appraisal.policy.model import (
    Binding,
    ByMachine,
    ByTable,
    Policy,
    ReportDataBinding,
    RuntimeBinding,
    Session,
)
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.wants import ANY, Any, Want
from kluis.appraisal.rules.appraise import CODE_KEYS
from kluis.appraisal.rules.binding import find_launch_configuration, runtime
from kluis.appraisal.rules.identity import within
from kluis.errors import PolicyError
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims, Machine, TcbStatus, Tee
from kluis.evidence.verified import Verified

# The rules that identify a single machine.
MACHINES = frozenset({"platform", "module_id", "vm"})


def draft(
    evidence: Verified[Claims],
    *,
    this_machine: bool = False,
    emulated_roots: tuple[str, ...] = (),
    runtime_data: bytes | None = None,
    launch_configuration: bytes | None = None,
) -> Policy:
    """Draft the strictest policy that this evidence meets, except what changes with each piece of evidence.

    Every field of the TEE's table requires the evidence's value, or ``any`` if it has none. Values that must
    differ next time do not come from the evidence: the relying party supplies the nonce and the report data.

    Args:
        evidence: verified; review it first, because a draft trusts it.
        this_machine: whether to require this single machine, too.
        emulated_roots: files of roots that the policy trusts in addition to the vendors'.
        runtime_data: the document that accompanies a Kluis enclave's evidence; with it, the draft requires
            its purpose and a nonce.
        launch_configuration: of a Kluis enclave; the draft accepts the missing protections and insecure
            grants that it names.

    Raises:
        PolicyError: no policy should be drafted from the evidence: its TEE is in debug mode, its vendor has
            revoked the platform, it measures no code, or it does not prove an accompanying document.
    """
    claims = evidence.value
    if claims.debug or claims.level is ProtectionLevel.NONE:
        raise PolicyError(
            f"draft: want evidence of a TEE that keeps something out, got level {claims.level}",
            hint="start it without debug; a root that is not a vendor's needs its level: --root-level",
            code="debug" if claims.debug else "protection",
        )
    if claims.tcb.status in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED):
        raise PolicyError(
            f"draft: want a platform that its vendor supports, got {claims.tcb.status}", code="tcb_status"
        )
    tables = _tables(claims, this_machine=this_machine)
    code = [want for wants in tables.values() for key, want in wants.items() if key in CODE_KEYS]
    if all(isinstance(want, Any) for want in code):
        raise PolicyError(
            "draft: want evidence that identifies the code, got evidence without a measurement: the"
            " draft would accept any code",
            hint="quote PCRs of SHA-256 or better: nobody's collision is a claim",
            code="measurement",
        )
    tcb = claims.tcb
    return Policy(
        protection=frozenset({claims.level}),
        debug=False,
        denylists=True,
        identity=ByTable(tables=tables),
        tcb_statuses=frozenset({tcb.status}),
        advisories=frozenset(tcb.advisories) if tcb.status is not TcbStatus.UP_TO_DATE else frozenset(),
        min_evaluation=ANY if tcb.evaluation is None else tcb.evaluation,
        min_tcb_date=ANY if tcb.date is None else tcb.date.date(),
        max_collateral_age=ANY if claims.collateral_issued is None else timedelta(days=_days(claims)),
        max_evidence_age=timedelta(minutes=5),
        binding=_binding(claims, runtime_data, launch_configuration),
        emulated_roots=emulated_roots,
        machine=_machine(claims.machine, this_machine=this_machine) if claims.machine else None,
    )


def _tables(claims: Claims, *, this_machine: bool) -> dict[Tee, dict[str, Want]]:
    tables: dict[Tee, dict[str, Want]] = {}
    for part in within(claims):
        wants = tables[part.tee] = {}
        for field in TABLES[part.tee]:
            drafted = field.drafted or (this_machine and field.rule in MACHINES)
            wants[field.key] = field.form.draft(field.claim(part)) if drafted else ANY
    return tables


def _machine(machine: Machine, *, this_machine: bool) -> ByMachine:
    tables = _tables(machine.claims, this_machine=this_machine)
    for each in open_keys(tables, machine.claims.tee):
        raise PolicyError(
            f"draft: want evidence that identifies the machine's guest, got no "
            f"{' and no '.join(each.lacks) or each.key}: the draft would accept any guest",
            hint="quote PCRs of SHA-256 or better, 0 to 15: nobody's collision is a claim",
            code="measurement",
        )
    issued = machine.claims.collateral_issued
    # The emulated processor's digest always contains the guest; the firmware of a cloud boots any.
    uncertain = machine.claims.tee in UNCERTAIN and machine.claims.level is not ProtectionLevel.VM
    return ByMachine(
        any_guest=uncertain,
        identity=ByTable(tables=tables),
        only=ANY if machine.only is None else frozenset({machine.only}),
        guest_releases=frozenset({machine.release}) if machine.release else ANY,
        levels=frozenset({machine.level}),
        missing=frozenset(machine.missing),
        max_collateral_age=ANY if issued is None else timedelta(days=_days(machine.claims)),
    )


def _days(claims: Claims) -> int:
    """Intel publishes every day, for 30 days; other vendors sign their lists once a year."""
    return 30 if claims.tee in (Tee.SGX, Tee.TDX) else 366


def _binding(claims: Claims, runtime_data: bytes | None, launch_configuration: bytes | None) -> Binding:
    """A nonce if the evidence has a field for one; else report data that the relying party supplies."""
    if runtime_data is not None:
        return _of_enclave(claims, runtime_data, launch_configuration)
    if claims.nonce is not None:
        return ReportDataBinding(report_data=ANY, nonce=True)
    return ReportDataBinding(report_data=Session.GIVEN if claims.report_data else ANY)


def _of_enclave(claims: Claims, runtime_data: bytes, launch_configuration: bytes | None) -> RuntimeBinding:
    proven, why = runtime(claims, runtime_data)
    if proven is None:
        raise PolicyError(
            f"draft: runtime data: want what the evidence binds, got {why}", code="runtime_data"
        )
    started, why = find_launch_configuration(claims, launch_configuration)
    if started is None:
        raise PolicyError(
            f"draft: launch configuration: want what the evidence binds, got {why}",
            code="launch_configuration",
        )
    return RuntimeBinding(
        purpose=proven.purpose,
        nonce=True,
        missing=frozenset(started.missing),
        counters=frozenset({started.counter}),
        insecure=frozenset(grant for grant in started.grants if grant.startswith("insecure_")),
    )
