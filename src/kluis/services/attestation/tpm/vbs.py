"""Verify VBS enclaves: the secure kernel's signature on the report, and the request that it covers.

The signing key is in no certificate: the hypervisor's loader measures it (IDKS), so only the TPM's quote
certifies it. Its value depends on the boot: a policy that trusts an enclave must require Windows' own boot,
by secure boot and PCRs. Spec: Microsoft Azure Attestation, "TPM and VBS enclave attestation protocol", "VBS
report object"; Windows SDK, ``wbcl.h``, SIPAEVENT_VSM_IDKS_INFO.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Iterator
from typing import Any

from kluis.errors import FormatError, KluisError
from kluis.evidence import signatures
from kluis.evidence.context import Context
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.formats.azure import vbs
from kluis.formats.azure.vbs import Report
from kluis.formats.encoding import b64
from kluis.formats.eventlog import sipa
from kluis.formats.eventlog.sipa import Sipa
from kluis.formats.x509 import PublicKey, Scheme
from kluis.hashes import sha512
from kluis.services.attestation.faults import InvalidEvidence
from kluis.services.attestation.guest import windows


def verify(package: bytes, reported: bytes, log: LogClaims | None, context: Context) -> Report:
    """Verify an enclave's report.

    1. Its data are the SHA-512 of the request's content, unchanged.
    2. The quoted log proves the key of its signature.

    Raises:
        InvalidEvidence: a step fails.
    """
    try:
        read = vbs.parse(package)
    except KluisError as error:
        raise InvalidEvidence(error.message, code=error.code) from None
    want = sha512(reported)
    if not hmac.compare_digest(read.report.enclave_data, want):  # 1
        raise InvalidEvidence(
            f"VBS report: enclave data: want {want.hex()[:32]}.., SHA-512 of report_signed, "
            f"got {read.report.enclave_data.hex()[:32]}..",
            code="runtime_data_binding",
        )
    keys = tuple(_keys(log))
    for key in keys:  # 2
        try:
            signatures.check_raw(
                read.signature,
                read.signed,
                key.spki,
                Scheme.PS256,
                "VBS report",
                context=context,
                code="sig_report",
            )
        except KluisError:
            continue
        return read.report
    raise InvalidEvidence(
        f"VBS report: want a signature of one of {len(keys)} keys that the boot measured, got another's",
        code="sig_report",
    )


def claims_of(report: Report | None) -> dict[str, Any]:
    """The claims of an enclave; without one, that there is none."""
    there = report is not None
    claims: dict[str, Any] = {"vbsReportPresent": there, "vsmReportPresent": there}
    if report is not None:
        claims |= {
            "enclaveAuthorId": b64.encode_url(report.author_id),
            "enclaveImageId": b64.encode_url(report.image_id),
            "enclaveOwnerId": b64.encode_url(report.owner_id),
            "enclaveFamilyId": b64.encode_url(report.family_id),
            "enclaveSvn": report.enclave_svn,
            "enclavePlatformSvn": report.platform_svn,
            "enclaveFlags": report.flags,
        }
    return claims


def _keys(log: LogClaims | None) -> Iterator[PublicKey]:
    """Keys of the secure kernel that the log proves: measured before Windows closed the register."""
    for each in windows.measured_events(log):
        if each.nodes is None or not each.early:
            continue
        for kind, value in sipa.flat(each.nodes):
            if kind == Sipa.VSM_IDKS_INFO:
                with contextlib.suppress(FormatError):
                    yield sipa.identity_key(value)
