"""The claims of an SNP report and its endorsement, decoded for the product that the chain names."""

from __future__ import annotations

from datetime import datetime

from kluis.evidence.amd.chain import Vek
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NO_REGISTERS, NOT_JUDGED, Claims, Platform, Tee, VendorClaims
from kluis.formats.snp.flags import GuestPolicy, PlatformInfo, SigningKey
from kluis.formats.snp.report import Cpuid, FirmwareVersion, Report
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.formats.x509 import Crl
from kluis.frozen import frozen
from kluis.hashes import Digest

_NO_AGENT = b"\xff" * 32


@frozen(kw_only=True)
class SnpClaims(VendorClaims):
    """The vendor-specific claims of an SNP report.

    Attributes:
        version: of the report, 2..5.
        product: from the chain; the certificates agree, and CPUID does too if the report has it.
        cpuid: the processor; None before version 3.
        vmpl: the privilege level of the requester, 0..3.
        policy: the guest owner's restrictions on the host.
        platform_info: the platform's configuration.
        signing_key: whether a VCEK or a VLEK signed.
        csp_id: the cloud provider that received the VLEK; None for a VCEK.
        chip_id: 64 bytes; on Turin only the first 8 are used.
        chip_id_masked: the host hides the chip's id: it is all zero.
        mask_chip_key: the chip's own key is masked.
        image_id: 16 bytes, from the id block.
        host_data: 32 bytes that the host set at launch.
        id_key_digest: of the key that signed the id block, or None.
        author_key_digest: of the key that signed the id key, or None.
        report_id: 32 bytes, the guest's own.
        report_id_ma: 32 bytes, its migration agent's, or None.
        migratable: the policy allows a migration agent, or one is bound.
        reported_tcb: that the signing key was derived for.
        current_tcb: of the running firmware.
        committed_tcb: below which firmware cannot be rolled back.
        launch_tcb: at launch, or at the import after a migration.
        current_version: of the running firmware.
        committed_version: of the firmware that cannot be rolled back.
        provisional_firmware: the running firmware is not committed, and may be rolled back.
        reported_within_committed: no component of ``reported_tcb`` is above ``committed_tcb``.
        committed_within_current: no component of ``committed_tcb`` is above ``current_tcb``.
        launch_within_current: no component of ``launch_tcb`` is above ``current_tcb``. A rollback of
            uncommitted firmware makes this False; the report is still authentic.
        launch_mitigations: mitigations in force at launch, 64 bits; None before version 5.
        current_mitigations: mitigations in force now, 64 bits; None before version 5.
        crl_checked: the CA was looked up on the root's CRL. If False, revocation is unknown.
        crl_issued: when that CRL was issued, or None.
        unknown_extensions: unknown identifiers in AMD's arc of the certificate.
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


@frozen
class Decoded:
    """A report's bit fields, decoded once."""

    policy: GuestPolicy
    platform_info: PlatformInfo
    author_key: bool
    mask_chip_key: bool


def vendor_claims(report: Report, decoded: Decoded, vek: Vek, crl: Crl | None) -> SnpClaims:
    """Collect the claims that only an SNP report has.

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
    """Combine them with the claims that all TEEs share."""
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
    # Usually all four equal the signing key's TCB, which is already decoded.
    return vek.tcb if data == vek.tcb_bytes else TcbVersion.parse(data, vek.authority.product, what)


def _key_digest(value: bytes) -> Digest | None:
    return Digest("sha384", value) if any(value) else None
