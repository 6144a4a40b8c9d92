"""Make and check reports like an SGX processor, without one.

Spec: Intel SDM vol. 3D, "EREPORT", "EGETKEY"; NIST SP 800-38B (CMAC); RFC 5869 (HKDF).
"""

from __future__ import annotations

import hmac
import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.errors import AuthenticityError
from kluis.formats.sgx.quote import NO_HARDWARE
from kluis.formats.sgx.report import Report, ReportBody
from kluis.formats.sgx.targetinfo import TargetInfo, target_of

FAMILY_ID: Final = NO_HARDWARE[:16]
XFRM: Final = 0xE7


def make_report_body(
    *,
    cpusvn: bytes,
    flags: int,
    mrenclave: bytes,
    mrsigner: bytes,
    isvprodid: int,
    isvsvn: int,
    configid: bytes,
    report_data: bytes,
    isvfamilyid: bytes = FAMILY_ID,
    xfrm: int = XFRM,
) -> ReportBody:
    """Build an enclave's report body; by default the family id states that there is no hardware.

    Args:
        cpusvn: 16 bytes.
        flags: attribute flags, as in ``kluis.formats.sgx.report.Flag``.
        mrenclave: 32 bytes.
        mrsigner: 32 bytes.
        isvprodid: 0..65535.
        isvsvn: 0..65535.
        configid: 64 bytes, the launch configuration's SHA-512.
        report_data: 64 bytes.
        isvfamilyid: 16 bytes.
        xfrm: extended feature mask.
    """
    return ReportBody(
        cpusvn=cpusvn,
        miscselect=0,
        isvextprodid=bytes(16),
        flags=int(flags),
        xfrm=xfrm,
        mrenclave=mrenclave,
        mrsigner=mrsigner,
        configid=configid,
        isvprodid=isvprodid,
        isvsvn=isvsvn,
        configsvn=0,
        isvfamilyid=isvfamilyid,
        report_data=report_data,
    )


def make_report(body: ReportBody, target: TargetInfo, report_root: bytes) -> bytes:
    """Make the local report of ``body`` for the enclave ``target``: 432 bytes.

    Args:
        body: of the reporting enclave; its CPUSVN is the platform's.
        target: the enclave that can check it.
        report_root: 32 secret bytes of the platform.
    """
    key_id = os.urandom(32)
    raw = body.encode()
    mac = _cmac(report_key(target, report_root, cpusvn=body.cpusvn, key_id=key_id), raw)
    return Report(body=body, key_id=key_id, mac=mac).encode()


def verify_report(data: bytes, verifier: ReportBody, report_root: bytes) -> ReportBody:
    """Check that a local report was made on this platform, for the enclave ``verifier``.

    Args:
        data: 432 bytes, untrusted.
        verifier: the checking enclave's own body; its CPUSVN is the platform's.
        report_root: 32 secret bytes of the platform.

    Returns:
        The body of the enclave that made the report.

    Raises:
        FormatError: not a report.
        AuthenticityError: made on another platform, or for another enclave, or changed.
    """
    report = Report.parse(data)
    key = report_key(target_of(verifier), report_root, cpusvn=verifier.cpusvn, key_id=report.key_id)
    if not hmac.compare_digest(_cmac(key, data[:384]), report.mac):
        raise AuthenticityError(
            "SGX report: was not made on this platform for this enclave", code="sig_report"
        )
    return report.body


def report_key(target: TargetInfo, report_root: bytes, *, cpusvn: bytes, key_id: bytes) -> bytes:
    """Derive the 16-byte MAC key for reports to ``target`` on this platform."""
    info = b"kluis sgx report key 1\0" + target.encode() + cpusvn + key_id
    return HKDF(algorithm=SHA256(), length=16, salt=None, info=info).derive(report_root)


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public point of ``key``: 64 bytes, x and y big-endian."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def _cmac(key: bytes, data: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(data)
    return mac.finalize()
