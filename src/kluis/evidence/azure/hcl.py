"""Verify the evidence of Azure confidential VMs and return its claims.

Spec: Azure "Guest attestation of confidential VMs"; the steps are numbered once, here, and each has
a forged case in the tests.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Final, TypeAlias

from kluis.errors import AuthenticityError, FormatError, UnavailableError, UnsupportedError
from kluis.evidence.azure import hardware
from kluis.evidence.azure.claims import KIND as KIND
from kluis.evidence.azure.claims import claims
from kluis.evidence.context import Context
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims
from kluis.evidence.tpm import key as trust
from kluis.evidence.tpm import quote
from kluis.evidence.tpm.claims import claims as tpm_claims
from kluis.evidence.tpm.claims import vendor_claims
from kluis.evidence.tpm.key import TrustedKey
from kluis.evidence.tpm.quote import Checked
from kluis.evidence.tpm.tpm import check_log
from kluis.evidence.verified import Verified, mint
from kluis.formats.hcl import report as hcl_report
from kluis.formats.hcl import runtime as runtime_data
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.hcl.report import HclReport, ReportType
from kluis.formats.hcl.runtime import RuntimeData
from kluis.formats.ietf import cmw
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm import pcrs, signature
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.frozen import frozen

REQUIRED: Final = ("hcl_report",)
TPM_PARTS: Final = ("tpm_quote", "tpm_signature", "pcrs")
OPTIONAL: Final = (*TPM_PARTS, "event_log", "td_quote")
REPORT_DATA_SIZE: Final = 64

Given: TypeAlias = AzureEndorsements | SnpEndorsements | Collateral | HeldCollateral


@frozen
class _Endorsements:
    snp: SnpEndorsements | None = None
    tdx: Collateral | HeldCollateral | None = None
    ak: TpmEndorsements | None = None


def matches(data: bytes) -> bool:
    """Whether ``data`` is an HCL report, or a collection that contains one."""
    return hcl_report.matches(data) or (cmw.matches(data) and b'"hcl_report":[' in data)


def verify(data: bytes, *, context: Context, collateral: Given | None, now: datetime) -> Verified[Claims]:
    """Verify the evidence of one Azure confidential VM.

    1. It is an HCL report, or a collection with ``hcl_report``. The collection may have ``td_quote``, only
       for TDX. It has all or none of ``tpm_quote``, ``tpm_signature`` (TPMT_SIGNATURE, or the raw bytes that
       Azure's transport has) and ``pcrs``, and with these optionally ``event_log``.
    2. The hardware is SEV-SNP or TDX: a report of VBS or a TVM is not a TEE's.
    3. The hardware's report binds the runtime data: its 64 bytes of report data are their hash and zeros.
    4. SNP: the report is verified under AMD's roots, and was requested at VMPL 0. TDX: the TD quote is
       verified under Intel's root, and every field that it shares with the TDREPORT is equal.
    5. The vTPM's key is the only key named HCLAkPub in the runtime data. If its certificate is given, it is
       verified too, and has the same key.
    6. If a quote is given, the runtime data state that there is a vTPM.
    7. The TPM quote is that key's, and the PCR values are the quoted ones (:func:`tpm.quote.check`).
    8. The event log replays to the quoted values, as in :mod:`kluis.evidence.tpm.tpm`.

    The hardware's report is as old as the VM's boot. Only the quote's nonce is fresh, and only its PCRs
    identify the running operating system. Requiring them is appraisal's task.

    Args:
        data: the report, bare or in a collection.
        context: the trusted roots and the rest of the verifier's state.
        collateral: of the hardware, or of all parts.
        now: aware.

    Raises:
        FormatError: a part is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate, CRL or document is expired or not yet valid.
        UnavailableError: an endorsement, or TDX's quote, is missing.
    """
    parts = _parts(data)  # 1
    report = hcl_report.parse(parts["hcl_report"])
    if report.report_type not in (ReportType.SNP, ReportType.TDX):  # 2
        raise UnsupportedError(
            f"{KIND}: want SNP or TDX, got {report.report_type.name}: there is no TEE behind it",
            code="bad_type",
        )
    _check_binding(report)  # 3
    endorsements = _sort(collateral)
    try:
        proven = _hardware(report, parts, endorsements, context, now)  # 4
        runtime = runtime_data.parse(report.runtime)  # 5
        certified = _certified_key(runtime, endorsements.ak, context, now)
    except UnavailableError:
        # Refuse what the VM's own parts contradict, before looking at any endorsement.
        _check_tpm(parts, runtime_data.parse(report.runtime), context.forgetful())
        raise
    until = min(proven.valid_until, certified.valid_until) if certified else proven.valid_until
    tpm = _tpm(parts, runtime, proven, certified, until, context, now)  # 6 to 8
    return mint(claims(report, runtime, proven, tpm, until, certified=certified is not None))


def _parts(data: bytes) -> dict[str, bytes]:
    if hcl_report.matches(data):
        return {"hcl_report": data}
    parts = cmw.Collection.parse(data).values(REQUIRED, OPTIONAL)
    quoted = [name for name in TPM_PARTS if name in parts]
    if quoted and len(quoted) != len(TPM_PARTS):
        raise FormatError(f"{KIND}: want {list(TPM_PARTS)} together, got {quoted}", code="bad_type")
    if "event_log" in parts and not quoted:
        raise FormatError(f"{KIND}: want a TPM quote with an event log, got none", code="bad_type")
    return parts


def _check_binding(report: HclReport) -> None:
    want = hashlib.new(report.hash, report.runtime).digest().ljust(REPORT_DATA_SIZE, b"\0")
    got = hardware.report_data(report)
    if not hmac.compare_digest(want, got):
        raise AuthenticityError(
            f"{KIND}: report data: want {report.hash} of the runtime data, {want.hex()[:16]}.., "
            f"got {got.hex()[:16]}..",
            code="runtime_data_binding",
        )


def _sort(collateral: Given | None) -> _Endorsements:
    match collateral:
        case AzureEndorsements():
            return _Endorsements(collateral.snp, collateral.tdx, collateral.ak)
        case SnpEndorsements():
            return _Endorsements(snp=collateral)
        case _:
            return _Endorsements(tdx=collateral)


def _hardware(
    report: HclReport, parts: dict[str, bytes], endorsements: _Endorsements, context: Context, now: datetime
) -> Claims:
    td_quote = parts.get("td_quote")
    if report.report_type is ReportType.TDX:
        return hardware.tdx_claims(report, td_quote, context=context, collateral=endorsements.tdx, now=now)
    if td_quote is not None:
        raise FormatError(f"{KIND}: want no TD quote with an SNP report, got one", code="bad_type")
    return hardware.snp_claims(report, context=context, collateral=endorsements.snp, now=now)


def _certified_key(
    runtime: RuntimeData, endorsements: TpmEndorsements | None, context: Context, now: datetime
) -> TrustedKey | None:
    if endorsements is None or endorsements.certificate is None:
        return None
    key = trust.verify_ak(endorsements, context=context, now=now)
    if key.spki != runtime.ak:
        raise AuthenticityError(
            f"{KIND}: want the certificate of {runtime_data.AK}, got another key's", code="key_binding"
        )
    if key.anchor.level is not ProtectionLevel.VTPM:
        # The root of an emulated TPM, or of an unknown vendor, does not certify the cloud's keys.
        raise AuthenticityError(
            f"{KIND}: want a certificate under a root of level {ProtectionLevel.VTPM}, got {key.anchor.name} "
            f"of {key.anchor.level}",
            code="root_untrusted",
        )
    return key


def _check_tpm(
    parts: dict[str, bytes], runtime: RuntimeData, context: Context
) -> tuple[Checked, LogClaims | None] | None:
    if "tpm_quote" not in parts:
        return None
    if runtime.configuration.get("tpm-enabled", True) is not True:  # 6
        raise AuthenticityError(
            f"{KIND}: the runtime data say that there is no vTPM, and a quote is given", code="ak_binding"
        )
    signed = signature.parse_either(parts["tpm_signature"])
    values = pcrs.parse(parts["pcrs"])
    checked = quote.check(parts["tpm_quote"], signed, values, runtime.ak, context=context)  # 7
    return checked, check_log(parts["event_log"], checked.values) if "event_log" in parts else None  # 8


def _tpm(
    parts: dict[str, bytes],
    runtime: RuntimeData,
    proven: Claims,
    certified: TrustedKey | None,
    until: datetime,
    context: Context,
    now: datetime,
) -> Claims | None:
    vtpm = _check_tpm(parts, runtime, context)  # 6 to 8
    if vtpm is None:
        return None
    checked, log = vtpm
    return tpm_claims(
        checked,
        vendor_claims(checked, runtime.ak, certified=certified, log=log),
        level=proven.level,
        anchor=proven.anchor,
        issued=proven.collateral_issued,
        until=until,
        now=now,
    )
