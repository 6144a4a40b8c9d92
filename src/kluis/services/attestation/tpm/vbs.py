"""VBS enclaves: whose secure kernel signed the report, and for which request.

The key that signs is in no certificate: the hypervisor's loader measures it (IDKS), so the TPM's quote is
what vouches for it. Spec: Microsoft Azure Attestation, "VBS attestation protocol"; Windows SDK.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any, Final

from kluis.errors import FormatError, KluisError
from kluis.evidence import signatures
from kluis.evidence.context import Context
from kluis.evidence.eventlog.judgement import LogClaims, Proof
from kluis.formats import vbs
from kluis.formats._reader import Reader
from kluis.formats.eventlog import sipa
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.runtime_data import base64url
from kluis.formats.vbs import Report
from kluis.formats.x509 import PublicKey, Scheme
from kluis.hashes import sha512
from kluis.services.attestation.faults import InvalidEvidence

__all__ = ["claims_of", "verify"]

IDKS: Final = 0x00050023
RSA: Final = 1
MAX_MODULUS: Final = 1024
_MEASURED: Final = range(11, 15)


def verify(package: bytes, reported: bytes, log: LogClaims | None, context: Context) -> Report:
    """Verify an enclave's report.

    1. Its data are the SHA-512 of what the request says, as it was sent.
    2. The key of its signature is one that the quoted log proves.

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
    found: dict[str, Any] = {"vbsReportPresent": there, "vsmReportPresent": there}
    if report is not None:
        found |= {
            "enclaveAuthorId": base64url(report.author_id),
            "enclaveImageId": base64url(report.image_id),
            "enclaveOwnerId": base64url(report.owner_id),
            "enclaveFamilyId": base64url(report.family_id),
            "enclaveSvn": report.enclave_svn,
            "enclavePlatformSvn": report.platform_svn,
            "enclaveFlags": report.flags,
        }
    return found


def _keys(log: LogClaims | None) -> Iterator[PublicKey]:
    """Keys of the secure kernel's that the log proves."""
    for each in log.events if log else ():
        tagged = each.event.kind == EventType.EVENT_TAG and each.register in _MEASURED
        if not tagged or each.proof is not Proof.DATA or not sipa.matches(each.event.data):
            continue
        try:
            for kind, value in sipa.events(each.event.data):
                if kind == IDKS:
                    yield _key(value)
        except FormatError:
            continue


def _key(data: bytes) -> PublicKey:
    """Read SIPAEVENT_VSM_IDK_INFO_PAYLOAD: algorithm, bits, sizes, exponent and modulus, big-endian both."""
    r = Reader(data, "IDKS")
    algorithm, _, exponent_size, modulus_size = (r.u32(name) for name in ("algorithm", "bits", "e", "n"))
    if algorithm != RSA or not 1 <= exponent_size <= 8 or not 1 <= modulus_size <= MAX_MODULUS:
        raise FormatError("IDKS: want an RSA key", code="bad_type")
    exponent, modulus = r.take(exponent_size, "exponent"), r.take(modulus_size, "modulus")
    r.end()
    return PublicKey.of_rsa(int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big"))
