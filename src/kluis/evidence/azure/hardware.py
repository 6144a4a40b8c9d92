"""Verify the hardware under an Azure confidential VM: an SNP report, or the TD quote of a TDREPORT.

Spec: Azure "Guest attestation of confidential VMs"; Intel "TDX Module ABI", "TDREPORT_STRUCT".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Final, cast

from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.evidence.amd import snp
from kluis.evidence.amd.claims import SnpClaims
from kluis.evidence.context import Context
from kluis.evidence.intel import tdx
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.model import Claims
from kluis.formats.hcl.report import HEADER_SIZE, HclReport, ReportType
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.snp.report import parse as parse_snp
from kluis.formats.tdx.report import TdReport
from kluis.formats.tdx.tdreport import SIZE, TYPE_TDX, TdReportStruct
from kluis.hashes import Digest

_PARAVISOR_VMPL: Final = 0


def report_data(report: HclReport) -> bytes:
    """The 64 bytes that the hardware's report binds, not yet verified.

    Raises:
        FormatError: the hardware's report is malformed.
    """
    if report.report_type is ReportType.SNP:
        return parse_snp(report.hardware).report_data
    return _td_report(report).mac.report_data


def snp_claims(
    report: HclReport, *, context: Context, collateral: SnpEndorsements | None, now: datetime
) -> Claims:
    """Verify the SNP report, which the paravisor requested at VMPL 0.

    Raises:
        KluisError: as raised by the verifier of SNP reports; AuthenticityError if another VMPL requested it.
    """
    claims = snp.verify(report.hardware, context=context, collateral=collateral, now=now).value
    vmpl = cast("SnpClaims", claims.vendor).vmpl
    if vmpl != _PARAVISOR_VMPL:
        raise AuthenticityError(
            f"HCL report.hardware report: want VMPL {_PARAVISOR_VMPL}, the paravisor's, got {vmpl}",
            code="vmpl",
        )
    return claims


def tdx_claims(
    report: HclReport,
    quote: bytes | None,
    *,
    context: Context,
    collateral: Collateral | HeldCollateral | None,
    now: datetime,
) -> Claims:
    """Verify the TD quote, and that it is of the TDREPORT in the HCL report, field by field.

    Raises:
        KluisError: as raised by the verifier of TD quotes.
        AuthenticityError: it is another trust domain's, or another report of this one.
        UnavailableError: there is no TD quote.
    """
    local = _td_report(report)
    if quote is None:
        raise UnavailableError(
            "HCL report: a TDREPORT is signed by nobody: only its own processor can check its MAC",
            hint="add the TD quote of it: POST the TDREPORT to http://169.254.169.254/acc/tdquote",
            code="collateral_missing",
        )
    try:
        claims = tdx.verify(quote, context=context, collateral=collateral, now=now).value
    except UnavailableError:
        _check_same(local, quote)  # another domain's quote is refused, whatever endorses it
        raise
    _check_same(local, quote)
    return claims


def _check_same(local: TdReportStruct, quote: bytes) -> None:
    for name, want, got in _pairs(local, cast("TdReport", dcap_quote.parse(quote).body)):
        if want != got:
            raise AuthenticityError(
                f"TD quote.{name}: want the TDREPORT's {want!s:.40}, got {got!s:.40}",
                code="td_report_mismatch",
            )


def _td_report(report: HclReport) -> TdReportStruct:
    local = TdReportStruct.parse(report.hardware[:SIZE], base=HEADER_SIZE)
    if local.mac.type != TYPE_TDX or any(report.hardware[SIZE:]):
        raise FormatError(
            f"HCL report.hardware report at {HEADER_SIZE:#x}: want a TDREPORT and zeros, got type "
            f"{local.mac.type:#x}",
            code="bad_type",
        )
    mac = local.mac
    for name, part, want in (
        ("TEE_TCB_INFO", local.tcb_info, mac.tee_tcb_info_hash),
        ("TDINFO", local.td_info, mac.tee_info_hash),
    ):
        # The MAC cannot be checked here; this checks that the parts under it belong together.
        if hashlib.sha384(part.encode()).digest() != want:
            raise AuthenticityError(
                f"HCL report.hardware report: {name}: want SHA-384 {want.hex()[:16]}.., as its TDREPORT "
                "has it, got another",
                code="td_report_mismatch",
            )
    return local


def _pairs(local: TdReportStruct, quoted: TdReport) -> Iterator[tuple[str, object, object]]:
    """Each shared field: its name, and its values in the TDREPORT and in the quote."""
    module, domain = local.tcb_info, local.td_info
    yield "report_data", local.mac.report_data.hex(), quoted.report_data.hex()
    for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        yield name, Digest("sha384", getattr(domain, name)), Digest("sha384", getattr(quoted, name))
    yield "td_attributes", domain.attributes, quoted.td_attributes
    yield "seam_attributes", module.attributes, quoted.seam_attributes
    yield "xfam", domain.xfam, quoted.xfam
    for name in ("mrconfigid", "mrowner", "mrownerconfig"):
        yield name, getattr(domain, name).hex(), getattr(quoted, name).hex()
    for name in ("tee_tcb_svn", "mrseam", "mrsignerseam"):
        yield name, getattr(module, name).hex(), getattr(quoted, name).hex()
