"""What a relying party wants of evidence: a value that leaves nothing unsaid.

Every field must be given. A rule that is absent from a policy is refused when it loads; it is never
skipped when evidence is judged. What does not matter is ``ANY``, in so many words.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.wants import ANY, Any, OneOf, Referenced, Registers, Want, some
from kluis.errors import UsageError
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import TcbStatus, Tee
from kluis.formats.kluis.runtime_data import Purpose

# What the evidence of an Azure VM is composed of, beside the vTPM's.
HARDWARE: Final = (Tee.SNP, Tee.TDX)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ByImage:
    """Accept these measurements of SGX enclaves and no others.

    Attributes:
        image_ids: 32 bytes each, at least one.
    """

    image_ids: frozenset[bytes]

    def __post_init__(self) -> None:
        some(self.image_ids, "policy.identity.image_ids")
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
        some(self.signers, "policy.identity.signers")
        _sizes("identity.signers", self.signers)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What one source of reference values says of one TEE's evidence, all of it together.

    Attributes:
        name: of what it is, for people.
        wants: by the key of the TEE's table; at least one.
    """

    name: str
    wants: Mapping[str, OneOf | Registers]

    def __post_init__(self) -> None:
        some(self.wants, "release")

    @property
    def things(self) -> frozenset[tuple[str, str]]:
        """What it says something of: keys, and of registers each by its name."""
        return frozenset(
            (key, name)
            for key, want in self.wants.items()
            for name in (want.values if isinstance(want, Registers) else ("",))
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ByTable:
    """Accept what the table of the evidence's own TEE accepts; no table, not accepted.

    Attributes:
        tables: at least one; for each TEE a want for every one of its fields.
        releases: for a TEE whose reference values came from several sources, what each said: values are
            good together, and not one of one release beside one of another.
    """

    tables: Mapping[Tee, Mapping[str, Want]]
    releases: Mapping[Tee, tuple[Release, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        some(self.tables, "policy")
        for tee, wants in self.tables.items():
            fields = {field.key for field in TABLES[tee]}
            if lacks := sorted(fields - set(wants)):
                raise UsageError(f"policy.{tee}.{lacks[0]}: is not stated")
            if more := sorted(set(wants) - fields):
                raise UsageError(f"policy.{tee}.{more[0]}: is not a key of a policy")
        for tee, releases in self.releases.items():
            if tee not in self.tables:
                raise UsageError(f"policy.releases.{tee}: want also a table of that TEE, got no table")
            known = {field.key for field in TABLES[tee] if getattr(field.form, "referenced", False)}
            if unknown := sorted({key for each in releases for key in each.wants} - known):
                raise UsageError(f"policy.releases.{tee}.{unknown[0]}: has no reference values")
        held = {tee: MappingProxyType(dict(wants)) for tee, wants in self.tables.items()}
        object.__setattr__(self, "tables", MappingProxyType(held))
        object.__setattr__(self, "releases", MappingProxyType(dict(self.releases)))


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
        some(self.counters, "policy.launch.counters")


class Session(enum.StrEnum):
    """Report data that only the relying party knows when it judges.

    ``GIVEN`` are the bytes it gives then; ``NONCE`` is its nonce, zeros after it.
    """

    GIVEN = "given"
    NONCE = "nonce"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportDataBinding:
    """The evidence is of something that is not Kluis's: what its report data must be.

    Attributes:
        report_data: 0..1024 bytes, compared in full; or what is known only when it is judged; or ``ANY``.
        nonce: whether the evidence must hold the relying party's nonce, in its own place for one.
    """

    report_data: bytes | Session | Any
    nonce: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.report_data, bytes) and len(self.report_data) > 1024:
            raise UsageError(
                f"policy.binding.report_data: want at most 1024 bytes, got {len(self.report_data)}"
            )


Identity: TypeAlias = ByImage | BySigner | ByTable
Binding: TypeAlias = RuntimeBinding | ReportDataBinding


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that evidence must meet.

    Attributes:
        protection: the levels accepted, at least one.
        debug: whether a debug TEE, open to its host, is accepted.
        denylists: whether a platform that the dated denylists name is refused.
        identity: which code, on which TEE.
        tcb_statuses: what the maker may think of the platform, at least one.
        advisories: names accepted where the status is not ``UpToDate``.
        min_evaluation: least TCB evaluation data number of the collateral.
        min_tcb_date: the platform's TCB level is of this day or later.
        max_collateral_age: since the oldest part of the collateral was issued.
        max_evidence_age: between verification and appraisal.
        binding: what the report data must be bound to.
        emulated_roots: files of root certificates that the policy's owner trusts beside the makers';
            whoever verifies reads them, relative to the policy.
    """

    protection: frozenset[ProtectionLevel]
    debug: bool
    denylists: bool
    identity: Identity
    tcb_statuses: frozenset[TcbStatus]
    advisories: frozenset[str] | Any
    min_evaluation: int | Any
    min_tcb_date: datetime.date | Any
    max_collateral_age: timedelta | Any
    max_evidence_age: timedelta
    binding: Binding
    emulated_roots: tuple[str, ...]

    def __post_init__(self) -> None:
        some(self.protection, "policy.accept.protection")
        some(self.tcb_statuses, "policy.tcb.statuses")
        if self.debug != (ProtectionLevel.NONE in self.protection):
            raise UsageError(
                'policy.accept: want debug = true with protection "none", and neither without the other',
                hint="a debug enclave has protection level none",
            )

    @property
    def tees(self) -> frozenset[Tee]:
        """Whose tables there are."""
        return frozenset(self.identity.tables if isinstance(self.identity, ByTable) else {Tee.SGX})

    @property
    def referenced(self) -> bool:
        """Whether it wants reference values, which somebody else gives."""
        if not isinstance(self.identity, ByTable):
            return False
        tables = self.identity.tables.values()
        return any(isinstance(want, Referenced) for wants in tables for want in wants.values())

    @property
    def whole(self) -> frozenset[Tee]:
        """Whose evidence is accepted as a whole.

        Hardware that a composite's table names is judged within it: bare, its report would meet a table
        that was written for what runs below, and nothing would judge what runs above.
        """
        if not isinstance(self.identity, ByTable):
            return self.tees
        if Tee.AZURE not in self.tees:
            return self.tees
        inside = self.identity.tables[Tee.AZURE]["hardware"]
        return self.tees - {tee for tee in HARDWARE if inside.meets(tee.value)}


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
        denylists=False,
        identity=identity,
        tcb_statuses=frozenset({TcbStatus.UP_TO_DATE}),
        advisories=frozenset(),
        min_evaluation=0,
        min_tcb_date=ANY,
        max_collateral_age=timedelta(days=30),
        max_evidence_age=timedelta(minutes=5),
        binding=RuntimeBinding(
            purpose=purpose, nonce=True, missing=missing, counters=counters, insecure=frozenset()
        ),
        emulated_roots=emulated_roots,
    )


def _sizes(name: str, values: frozenset[bytes]) -> None:
    for value in values:
        if len(value) != 32:
            raise UsageError(f"policy.{name}: want 32 bytes, got {len(value)}")
