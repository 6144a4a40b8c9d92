"""What a relying party wants of evidence: a value that leaves nothing unsaid.

Every field must be given. A rule that is absent from a policy is refused when it loads; it is never
skipped when evidence is judged.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TypeAlias

from kluis.errors import UsageError
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import TcbStatus
from kluis.formats.runtime_data import Purpose


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ByImage:
    """Accept these measurements and no others.

    Attributes:
        image_ids: 32 bytes each, at least one.
    """

    image_ids: frozenset[bytes]

    def __post_init__(self) -> None:
        _some("identity.image_ids", self.image_ids)
        _sizes("identity.image_ids", self.image_ids)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BySigner:
    """Accept whatever these signers signed as this product, from a security version on.

    Attributes:
        signers: MRSIGNER, 32 bytes each, at least one.
        product_id: 0..65535.
        min_svn: 0..65535.
    """

    signers: frozenset[bytes]
    product_id: int
    min_svn: int

    def __post_init__(self) -> None:
        _some("identity.signers", self.signers)
        _sizes("identity.signers", self.signers)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeBinding:
    """The evidence is of a Kluis enclave: runtime data and launch configuration travel beside it.

    Attributes:
        purpose: the one purpose accepted.
        nonce: whether the runtime data must hold the verifier's nonce.
        missing: protections that the launch may have done without.
        counters: who may witness the counters; ``unwitnessed`` is nobody.
        insecure: grants named ``insecure_*`` that the launch may have given.
    """

    purpose: Purpose
    nonce: bool
    missing: frozenset[str]
    counters: frozenset[str]
    insecure: frozenset[str]

    def __post_init__(self) -> None:
        _some("launch.counters", self.counters)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportDataBinding:
    """The evidence is of a foreign enclave: its report data must be exactly these 64 bytes."""

    report_data: bytes

    def __post_init__(self) -> None:
        if len(self.report_data) != 64:
            raise UsageError(f"policy.binding.report_data: want 64 bytes, got {len(self.report_data)}")


Identity: TypeAlias = ByImage | BySigner
Binding: TypeAlias = RuntimeBinding | ReportDataBinding


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that evidence must meet.

    Attributes:
        protection: the levels accepted, at least one.
        debug: whether a debug enclave, open to its host, is accepted.
        identity: which code.
        tcb_statuses: what the maker may think of the platform, at least one.
        advisories: names accepted where the status is not ``UpToDate``.
        min_evaluation: least TCB evaluation data number of the collateral.
        max_collateral_age: since the oldest part of the collateral was issued.
        max_evidence_age: between verification and appraisal.
        binding: what the report data must be bound to.
        emulated_roots: files of root certificates that the policy's owner trusts beside the makers';
            whoever verifies reads them, relative to the policy.
    """

    protection: frozenset[ProtectionLevel]
    debug: bool
    identity: Identity
    tcb_statuses: frozenset[TcbStatus]
    advisories: frozenset[str]
    min_evaluation: int
    max_collateral_age: timedelta
    max_evidence_age: timedelta
    binding: Binding
    emulated_roots: tuple[str, ...]

    def __post_init__(self) -> None:
        _some("accept.protection", self.protection)
        _some("tcb.statuses", self.tcb_statuses)
        if self.debug != (ProtectionLevel.NONE in self.protection):
            raise UsageError(
                'policy.accept: want debug = true with protection "none", and neither without the other',
                hint="a debug enclave has protection level none",
            )


def strict(
    identity: Identity,
    *,
    protection: frozenset[ProtectionLevel],
    purpose: Purpose,
    counters: frozenset[str],
    missing: frozenset[str],
    emulated_roots: tuple[str, ...] = (),
) -> Policy:
    """A policy for a Kluis enclave that accepts no debug, no insecure grant and no stale platform.

    A nonce is required; collateral may be 30 days old, verified evidence five minutes.

    Args:
        identity: which code.
        protection: the levels accepted.
        purpose: the one purpose accepted.
        counters: who may witness the counters.
        missing: protections that the launch may have done without.
        emulated_roots: files of the emulated roots trusted; by default none is.
    """
    return Policy(
        protection=protection,
        debug=False,
        identity=identity,
        tcb_statuses=frozenset({TcbStatus.UP_TO_DATE}),
        advisories=frozenset(),
        min_evaluation=0,
        max_collateral_age=timedelta(days=30),
        max_evidence_age=timedelta(minutes=5),
        binding=RuntimeBinding(
            purpose=purpose, nonce=True, missing=missing, counters=counters, insecure=frozenset()
        ),
        emulated_roots=emulated_roots,
    )


def _some(name: str, values: frozenset[object] | frozenset[bytes] | frozenset[str]) -> None:
    if not values:
        raise UsageError(f"policy.{name}: want at least 1, got 0", hint="an empty list accepts nothing")


def _sizes(name: str, values: frozenset[bytes]) -> None:
    for value in values:
        if len(value) != 32:
            raise UsageError(f"policy.{name}: want 32 bytes, got {len(value)}")
