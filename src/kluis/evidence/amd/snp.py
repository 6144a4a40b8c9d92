"""Verify SEV-SNP reports and return their claims.

Spec: AMD 56860, SEV-SNP Firmware ABI, "Attestation"; AMD 57230, "VCEK Certificate and KDS Interface
Specification". The steps are numbered once, here, and each has a forged case in the tests.
"""

from __future__ import annotations

from datetime import datetime

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import signatures
from kluis.evidence.amd import chain
from kluis.evidence.amd.chain import LEAF, Vek
from kluis.evidence.amd.claims import Decoded, claims, vendor_claims
from kluis.evidence.context import Context
from kluis.evidence.model import Claims
from kluis.evidence.verified import Verified, mint
from kluis.formats.snp import kds
from kluis.formats.snp import response as snp_response
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.snp.flags import Flags, GuestPolicy, PlatformInfo, SigningKey
from kluis.formats.snp.report import HOST_VMPL, Report
from kluis.formats.snp.response import Response
from kluis.formats.snp.tcb import TcbVersion, product_of
from kluis.formats.x509 import Certificate, Scheme

KIND = "SNP report"
_LOWEST_VMPL = 3
_NONE = Endorsements()


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a report, or like the firmware's response around one."""
    return snp_response.matches(data)


def verify(
    data: bytes, *, context: Context, collateral: Endorsements | None, now: datetime
) -> Verified[Claims]:
    """Verify one SNP report.

    1. It parses: version, algorithm, reserved bytes, and the padding of its signature; no bit that
       its policy or flags reserve is on.
    2. A guest requested it, not the host.
    3. It states that a VCEK or a VLEK signed it, and there is a certificate of that kind from a CA of that
       kind.
    4. The root's key is one of the context's anchors, and they are for SEV-SNP.
    5. Root, CA and leaf have their profile, names and signatures.
    6. Anchor, root, CA, leaf and CPUID name one product.
    7. Root, CA and leaf are in their validity periods.
    8. The CRL, if there is one, is the root's, signed and current, and lists neither CA nor root. If there is
       none, the claims state this; appraisal can require one.
    9. The leaf signed bytes 0x000..0x29F.
    10. The leaf's TCB is the report's ``reported_tcb``, component by component.
    11. The chip named in a VCEK is the report's, unless the host masks it, which the claims state.
    12. Debug, migration, provisional firmware and the order of TCBs are reported; appraisal judges them.

    Args:
        data: the report, bare, in the firmware's response, or followed by a certificate table, which
            completes ``collateral``.
        context: the trusted roots and the rest of the verifier's state.
        collateral: certificates and CRL.
        now: aware.

    Raises:
        FormatError: the report or an endorsement is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or CRL is expired or not yet valid.
        UnavailableError: a certificate is missing.
    """
    response = snp_response.parse(data)  # 1
    report = response.report
    policy = GuestPolicy.parse(report.policy)
    flags = Flags.parse(report.flags)
    _check_asker(report)  # 2
    kind = flags.signing_key
    if kind is SigningKey.NONE:  # 3
        raise AuthenticityError(f"{report.NAME}: states that no key signed it", code="signer_kind_mismatch")
    endorsements = collateral or _NONE
    if response.table is not None:
        endorsements = endorsements.over(
            Endorsements.from_table(response.table, vlek=kind is SigningKey.VLEK)
        )
    if endorsements.vek is None:
        raise _no_key(report, kind)
    try:
        vek = chain.verify_vek(endorsements.vek, endorsements, kind, context)  # 3 to 6
    except UnavailableError:
        # A report that the leaf did not sign is refused, whichever CA issued the leaf.
        _check_signature(response, chain.leaf_of(endorsements.vek, kind), context.forgetful())
        raise
    _check_processor(report, vek)  # 6
    chain.check_time(vek.authority, now, vek.certificate)  # 7
    crl = chain.check_crl(endorsements.crl, vek.authority, context, now)  # 8
    _check_signature(response, vek.certificate, context)  # 9
    _check_tcb(report, vek)  # 10
    _check_chip(report, vek)  # 11
    decoded = Decoded(policy, PlatformInfo.parse(report.platform_info), flags.author_key, flags.mask_chip_key)
    vendor = vendor_claims(report, decoded, vek, crl)  # 12
    return mint(claims(report, vendor, vek, crl, now))


def _check_asker(report: Report) -> None:
    """In a report that it requests itself, a host can choose any report data."""
    if report.vmpl == HOST_VMPL:
        raise AuthenticityError(f"{report.NAME}.vmpl: want a guest's, got the host's own report", code="vmpl")
    if report.vmpl > _LOWEST_VMPL:
        raise AuthenticityError(f"{report.NAME}.vmpl: want 0..{_LOWEST_VMPL}, got {report.vmpl}", code="vmpl")


def _check_processor(report: Report, vek: Vek) -> None:
    cpuid = report.cpuid
    if cpuid is None:
        return
    product = product_of(cpuid)
    if product is not vek.authority.product:
        raise AuthenticityError(
            f"{report.NAME}.cpuid: want a {vek.authority.product}, "
            f"got family {cpuid.family:#x} model {cpuid.model:#x}",
            code="product_mismatch",
        )


def _check_signature(response: Response, leaf: Certificate, context: Context) -> None:
    signatures.check_raw(
        response.report.signature,
        response.signed,
        leaf.spki,
        Scheme.ES384,
        response.report.NAME,
        context=context,
        code="sig_report",
    )


def _check_tcb(report: Report, vek: Vek) -> None:
    if report.reported_tcb == vek.tcb_bytes:
        return
    reported = TcbVersion.parse(report.reported_tcb, vek.authority.product, "reported_tcb")
    raise AuthenticityError(
        f"{LEAF[vek.authority.kind]}: want TCB {reported}, got {vek.tcb}",
        hint="fetch the certificate for the report's reported_tcb",
        code="tcb_cert_mismatch",
    )


def _check_chip(report: Report, vek: Vek) -> None:
    hw_id = vek.extensions.hw_id
    if hw_id is None or not any(report.chip_id):
        return
    named = hw_id.ljust(len(report.chip_id), b"\0")  # in a report, zeros follow a Turin's 8 bytes
    if named != report.chip_id:
        at = next(at for at, (want, got) in enumerate(zip(report.chip_id, named, strict=True)) if want != got)
        want, got = (each[at : at + 8].hex() for each in (report.chip_id, named))
        raise AuthenticityError(
            f"{LEAF[vek.authority.kind]}: want chip {want} at byte {at}, got {got}", code="chip_id_mismatch"
        )


def _no_key(report: Report, kind: SigningKey) -> UnavailableError:
    product = None if report.cpuid is None else product_of(report.cpuid)
    if kind is SigningKey.VLEK:
        hint = "the cloud delivers the VLEK with the report, in its certificate table, or through its service"
    elif product is None or not any(report.chip_id):
        hint = f"kluis collateral fetch REPORT; AMD's service is {kds.HOST}/vcek/v1/PRODUCT/CHIP_ID"
    else:
        tcb = TcbVersion.parse(report.reported_tcb, product, "reported_tcb")
        hint = f"kluis collateral fetch REPORT; it is {kds.HOST}{kds.vcek(product, report.chip_id, tcb)}"
    return UnavailableError(
        f"{report.NAME}: no {kind.name} certificate given", hint=hint, code="collateral_missing"
    )
