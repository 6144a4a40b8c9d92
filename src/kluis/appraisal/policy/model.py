"""The policy model: what a relying party requires of evidence, with every rule stated.

Every field must be given. A policy without one of its rules is refused when it loads; the rule is never
skipped during appraisal. Something that does not matter is explicitly ``ANY``.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

from kluis.appraisal.policy.guests import GUESTS as GUESTS
from kluis.appraisal.policy.guests import HARDWARE, NEEDED, UNCERTAIN, Open, open_keys
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.wants import ANY, Any, OneOf, Referenced, Want, some
from kluis.errors import UsageError
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import TcbStatus, Tee
from kluis.formats.kluis.runtime_data import Purpose
from kluis.frozen import frozen

# The levels that the root of a platform may state, which a machine's TEE endorses.
PLATFORM_LEVELS: Final = (ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER)


@frozen(kw_only=True)
class ByImage:
    """Accept only these measurements of SGX enclaves.

    Attributes:
        image_ids: 32 bytes each, at least one.
    """

    image_ids: frozenset[bytes]

    def __post_init__(self) -> None:
        some(self.image_ids, "policy.identity.image_ids")
        _sizes("identity.image_ids", self.image_ids)


@frozen(kw_only=True)
class BySigner:
    """Accept any code of this product that these signers signed, from a security version on.

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


@frozen(kw_only=True)
class Release:
    """The reference values of one source for one TEE's evidence, which belong together.

    Attributes:
        name: of the release, for messages.
        wants: requirements by key of the TEE's table; at least one.
    """

    name: str
    wants: Mapping[str, OneOf | Registers]

    def __post_init__(self) -> None:
        some(self.wants, "release")

    @property
    def things(self) -> frozenset[tuple[str, str]]:
        """What it has values for: keys, and each register by its name."""
        return frozenset(
            (key, name)
            for key, want in self.wants.items()
            for name in (want.values if isinstance(want, Registers) else ("",))
        )


@frozen(kw_only=True)
class ByTable:
    """Accept what the table of the evidence's own TEE accepts; a TEE without a table is refused.

    Attributes:
        tables: at least one; for each TEE a requirement for every one of its fields.
        releases: for a TEE with reference values from several sources, the values of each. They are accepted
            together: one release's value is not combined with another's.
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
            known = {field.key for field in TABLES[tee] if field.form.referenced}
            if unknown := sorted({key for each in releases for key in each.wants} - known):
                raise UsageError(f"policy.releases.{tee}.{unknown[0]}: has no reference values")
        tables = {tee: MappingProxyType(dict(wants)) for tee, wants in self.tables.items()}
        object.__setattr__(self, "tables", MappingProxyType(tables))
        object.__setattr__(self, "releases", MappingProxyType(dict(self.releases)))

    @property
    def whole(self) -> frozenset[Tee]:
        """The TEEs whose evidence is only accepted as a whole.

        Hardware that a composite's table names is judged within it. By itself, the hardware's report would
        meet a table written for the lower layer, and nothing would judge the upper layer.
        """
        tees = frozenset(self.tables)
        if Tee.AZURE not in tees:
            return tees
        inside = self.tables[Tee.AZURE]["hardware"]
        return tees - {tee for tee in HARDWARE if inside.meets(tee.value)}

    @property
    def referenced(self) -> bool:
        """Whether it requires reference values, which are supplied separately."""
        return any(isinstance(want, Referenced) for wants in self.tables.values() for want in wants.values())


@frozen(kw_only=True)
class ByMachine:
    """Accept an enclave only in these machines, whose TEE endorses the root of the platform inside.

    Attributes:
        any_guest: whether the machine's operator may choose its guest: the kernel, and all that runs in it. A
            launch digest of SNP may contain only the firmware: then it must be true, and no rule shows that.
        identity: the accepted evidence of the machine, by TEE: SNP, TDX, Azure, Nitro or TPM.
        only: the accepted image ids of a machine that runs one image, 32 bytes each; or ``ANY``.
        guest_releases: the accepted releases of the guest, as it states them; or ``ANY``.
        levels: that the root of the platform inside may state: ``process``, ``process-user``.
        missing: protections that the machine may do without.
        max_collateral_age: since the oldest part of the machine's collateral was issued.
    """

    any_guest: bool
    identity: ByTable
    only: frozenset[bytes] | Any
    guest_releases: frozenset[str] | Any
    levels: frozenset[ProtectionLevel]
    missing: frozenset[str]
    max_collateral_age: timedelta | Any

    def __post_init__(self) -> None:
        for tee in self.identity.tables:
            if tee not in GUESTS:
                raise UsageError(
                    f"policy.machine.{tee}: want one of {', '.join(GUESTS)}: no other endorses a root"
                )
        some(self.levels, "policy.machine.levels")
        for name, values in (("only", self.only), ("guest_releases", self.guest_releases)):
            if not isinstance(values, Any):
                some(values, f"policy.machine.{name}")
        if not isinstance(self.only, Any):
            _sizes("machine.only", self.only)
        open_ones = [
            each for tee in sorted(self.identity.whole) for each in open_keys(self.identity.tables, tee)
        ]
        if self.any_guest == bool(open_ones) or (self.any_guest and self.identity.whole & UNCERTAIN):
            return
        for each in open_ones:
            if each.lacks:
                needed = ", ".join(NEEDED[each.tee])
                raise UsageError(
                    f"policy.machine.{each.tee}.{each.key}: want {needed}, which identify a guest, "
                    f"got none for {', '.join(each.lacks)}",
                    hint="kluis policy init drafts them; any_guest = true accepts whatever the operator runs",
                )
        named = open_ones or [Open(tee, GUESTS[tee]) for tee in sorted(self.identity.whole)]
        where = ", ".join(f"policy.machine.{each.tee}.{each.key}" for each in named)
        raise UsageError(
            f'policy.machine: want any_guest = true with "any" in {where}, and neither without the other',
            hint="any_guest = true accepts whatever the machine's operator runs in it",
        )


@frozen(kw_only=True)
class RuntimeBinding:
    """The evidence is of a Kluis enclave: runtime data and launch configuration accompany it.

    Attributes:
        purpose: the only purpose accepted.
        nonce: whether the runtime data must contain the verifier's nonce.
        missing: protections that the launch may do without.
        counters: accepted witnesses of the counters; ``unwitnessed`` means none.
        insecure: accepted grants named ``insecure_*``.
    """

    purpose: Purpose
    nonce: bool
    missing: frozenset[str]
    counters: frozenset[str]
    insecure: frozenset[str]

    def __post_init__(self) -> None:
        some(self.counters, "policy.launch.counters")


class Session(enum.StrEnum):
    """Report data that the relying party supplies only at appraisal.

    ``GIVEN`` is the bytes it passes then; ``NONCE`` is its nonce, padded with zeros.
    """

    GIVEN = "given"
    NONCE = "nonce"


@frozen(kw_only=True)
class ReportDataBinding:
    """The evidence is not of a Kluis enclave: requirements for its report data.

    Attributes:
        report_data: 0..1024 bytes, compared in full; or supplied at appraisal; or ``ANY``.
        nonce: whether the evidence must contain the relying party's nonce, in its field for one.
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


@frozen(kw_only=True)
class Policy:
    """All requirements on evidence.

    Attributes:
        protection: the levels accepted, at least one.
        debug: whether a debug TEE, whose memory its host can read, is accepted.
        denylists: whether a platform on the dated denylists is refused.
        identity: the accepted code, by TEE.
        tcb_statuses: the vendor's accepted judgements of the platform, at least one.
        advisories: names accepted if the status is not ``UpToDate``.
        min_evaluation: least TCB evaluation data number of the collateral.
        min_tcb_date: the platform's TCB level is of this day or later.
        max_collateral_age: since the oldest part of the collateral was issued.
        max_evidence_age: between verification and appraisal.
        binding: what the report data must bind.
        emulated_roots: files of root certificates that the policy's owner trusts in addition to the vendors'.
            The verifier reads them, relative to the policy.
        machine: the machine that the enclave must be in; None accepts no machine around it.
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
    machine: ByMachine | None = None

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
        """The TEEs that have tables."""
        return frozenset(self.identity.tables if isinstance(self.identity, ByTable) else {Tee.SGX})

    @property
    def session(self) -> Session | None:
        """The report data that the relying party supplies at appraisal; None if it supplies none."""
        bound = self.binding.report_data if isinstance(self.binding, ReportDataBinding) else None
        return bound if isinstance(bound, Session) else None

    @property
    def uses_nonce(self) -> bool:
        """Whether a rule compares the relying party's nonce."""
        return self.binding.nonce or self.session is Session.NONCE

    @property
    def referenced(self) -> bool:
        """Whether it requires reference values, which are supplied separately."""
        if self.machine is not None and self.machine.identity.referenced:
            return True
        return isinstance(self.identity, ByTable) and self.identity.referenced

    @property
    def whole(self) -> frozenset[Tee]:
        """The TEEs whose evidence is only accepted as a whole, as :attr:`ByTable.whole` defines it."""
        return self.identity.whole if isinstance(self.identity, ByTable) else self.tees


def strict(
    identity: Identity,
    *,
    protection: frozenset[ProtectionLevel],
    purpose: Purpose,
    counters: frozenset[str],
    missing: frozenset[str],
    emulated_roots: tuple[str, ...] = (),
) -> Policy:
    """Build a policy for a Kluis enclave that accepts no debug, no insecure grant and no stale platform.

    A nonce is required; collateral may be 30 days old, verified evidence five minutes.

    Args:
        identity: the accepted code.
        protection: the levels accepted.
        purpose: the only purpose accepted.
        counters: accepted witnesses of the counters.
        missing: protections that the launch may do without.
        emulated_roots: files of the trusted emulated roots; none by default.
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
