"""What an SNP report and its endorsement say: typed, decoded for the product that the chain names."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from kluis.evidence.amd.chain import Vek
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NO_REGISTERS, NOT_JUDGED, Claims, Platform, Tee, VendorClaims
from kluis.formats.snp.flags import GuestPolicy, PlatformInfo, SigningKey
from kluis.formats.snp.report import Cpuid, FirmwareVersion, Report
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.formats.x509 import Crl
from kluis.frozen import made_quickly
from kluis.hashes import Digest

_NO_AGENT = b"\xff" * 32


@made_quickly
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SnpClaims(VendorClaims):
    """What an SNP report says beside the claims that all TEEs share.

    Attributes:
        version: of the report, 2..5.
        product: by the chain; the certificates, and CPUID where the report has it, agree.
        cpuid: the processor; None before version 3.
        vmpl: the privilege level that asked, 0..3.
        policy: what the guest's owner allows the host.
        platform_info: how the platform is set up.
        signing_key: whether a VCEK or a VLEK signed.
        csp_id: the cloud that a VLEK was lent to; None of a VCEK.
        chip_id: 64 bytes; on Turin the first 8 count.
        chip_id_masked: the host hides the chip's id: it is all zero.
        mask_chip_key: the chip's own key is masked.
        image_id: 16 bytes, from the id block.
        host_data: 32 bytes that the host set at launch.
        id_key_digest: of the key that signed the id block, or None.
        author_key_digest: of the key that signed the id key, or None.
        report_id: 32 bytes, the guest's own.
        report_id_ma: 32 bytes, its migration agent's, or None.
        migratable: the policy allows a migration agent, or one is bound.
        reported_tcb: the TCB that the signing key was derived for.
        current_tcb: that of the firmware that runs.
        committed_tcb: that below which firmware cannot be rolled back.
        launch_tcb: that of the launch, or of the import after a migration.
        current_version: of the firmware that runs.
        committed_version: of the firmware that cannot be rolled back.
        provisional_firmware: what runs is not what is committed, and may be rolled back.
        reported_within_committed: ``reported_tcb`` is in no component above ``committed_tcb``.
        committed_within_current: ``committed_tcb`` is in no component above ``current_tcb``.
        launch_within_current: ``launch_tcb`` is in no component above ``current_tcb``; a rollback of
            uncommitted firmware makes this False, and is no fault of the report's.
        launch_mitigations: mitigations in force at launch, 64 bits; None before version 5.
        current_mitigations: mitigations in force now, 64 bits; None before version 5.
        crl_checked: the CA was looked for on the root's CRL. Without it nothing is known of revocation.
        crl_issued: when that CRL was issued, or None.
        unknown_extensions: identifiers in AMD's arc of the certificate that we do not know.
    """

    version: int
    product: Product
    cpuid: Cpuid | None
    vmpl: int
    policy: GuestPolicy
    platform_info: PlatformInfo
    signing_key: SigningKey
    csp_id: str | None
    chip_id: bytes
    chip_id_masked: bool
    mask_chip_key: bool
    image_id: bytes
    host_data: bytes
    id_key_digest: Digest | None
    author_key_digest: Digest | None
    report_id: bytes
    report_id_ma: bytes | None
    migratable: bool
    reported_tcb: TcbVersion
    current_tcb: TcbVersion
    committed_tcb: TcbVersion
    launch_tcb: TcbVersion
    current_version: FirmwareVersion
    committed_version: FirmwareVersion
    provisional_firmware: bool
    reported_within_committed: bool
    committed_within_current: bool
    launch_within_current: bool
    launch_mitigations: int | None
    current_mitigations: int | None
    crl_checked: bool
    crl_issued: datetime | None
    unknown_extensions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Decoded:
    """A report's bit fields, decoded once."""

    policy: GuestPolicy
    platform_info: PlatformInfo
    author_key: bool
    mask_chip_key: bool


def vendor_claims(report: Report, decoded: Decoded, vek: Vek, crl: Crl | None) -> SnpClaims:
    """Gather what only an SNP report says.

    Raises:
        FormatError: a TCB version has bytes that the product's layout reserves.
    """
    current = _tcb(report.current_tcb, vek, "current_tcb")
    committed = _tcb(report.committed_tcb, vek, "committed_tcb")
    launched = _tcb(report.launch_tcb, vek, "launch_tcb")
    versions = report.current_version, report.committed_version
    agent = None if report.report_id_ma == _NO_AGENT else report.report_id_ma
    return SnpClaims(
        version=report.version,
        product=vek.authority.product,
        cpuid=report.cpuid,
        vmpl=report.vmpl,
        policy=decoded.policy,
        platform_info=decoded.platform_info,
        signing_key=vek.authority.kind,
        csp_id=vek.extensions.csp_id,
        chip_id=report.chip_id,
        chip_id_masked=not any(report.chip_id),
        mask_chip_key=decoded.mask_chip_key,
        image_id=report.image_id,
        host_data=report.host_data,
        id_key_digest=_key_digest(report.id_key_digest),
        author_key_digest=Digest("sha384", report.author_key_digest) if decoded.author_key else None,
        report_id=report.report_id,
        report_id_ma=agent,
        migratable=decoded.policy.migrate_ma or agent is not None,
        reported_tcb=vek.tcb,
        current_tcb=current,
        committed_tcb=committed,
        launch_tcb=launched,
        current_version=versions[0],
        committed_version=versions[1],
        provisional_firmware=report.current_tcb != report.committed_tcb or versions[0] != versions[1],
        reported_within_committed=committed.reaches(vek.tcb),
        committed_within_current=current.reaches(committed),
        launch_within_current=current.reaches(launched),
        launch_mitigations=report.launch_mitigations,
        current_mitigations=report.current_mitigations,
        crl_checked=crl is not None,
        crl_issued=None if crl is None else crl.this_update,
        unknown_extensions=vek.extensions.unknown,
    )


def claims(report: Report, vendor: SnpClaims, vek: Vek, crl: Crl | None, now: datetime) -> Claims:
    """Put them beside the claims that all TEEs share."""
    authority = vek.authority
    ends = [vek.certificate.not_after, authority.ca.not_after, authority.root.not_after]
    if crl is not None:
        ends.append(crl.next_update)
    return Claims(
        kind=report.NAME,
        tee=Tee.SNP,
        level=ProtectionLevel.NONE if vendor.policy.debug else authority.anchor.level,
        anchor=authority.anchor.name,
        debug=vendor.policy.debug,
        measurement=Digest("sha384", report.measurement),
        signer=vendor.id_key_digest,
        product_id=None,
        svn=report.guest_svn,
        config_id=None,
        family_id=report.family_id,
        registers=NO_REGISTERS,
        report_data=report.report_data,
        nonce=None,
        tcb=NOT_JUDGED,
        platform=Platform(
            id=b"" if vendor.chip_id_masked else report.chip_id, product=str(authority.product)
        ),
        collateral_issued=vendor.crl_issued,
        valid_until=min(ends),
        verified_at=now,
        vendor=vendor,
    )


def _tcb(data: bytes, vek: Vek, what: str) -> TcbVersion:
    # Most often all four are the one that the key is of, which is decoded.
    return vek.tcb if data == vek.tcb_bytes else TcbVersion.parse(data, vek.authority.product, what)


def _key_digest(value: bytes) -> Digest | None:
    return Digest("sha384", value) if any(value) else None
