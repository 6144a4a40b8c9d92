"""SGX DCAP quote, version 3: bytes to fields and back. Nothing here is verified.

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "Quote Format" (Version 3). Integers are
little-endian; signatures and keys are pairs of 32-byte big-endian numbers.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats._layout import U16, Struct, at, layout
from kluis.formats._reader import Reader
from kluis.formats.sgx.report import BODY_SIZE, ReportBody

HEADER_SIZE: Final = 48
SIGNED_SIZE: Final = HEADER_SIZE + BODY_SIZE
MAX_SIZE: Final = 64 * 1024
QE_VENDOR_INTEL: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
ECDSA_P256: Final = 2
PCK_CHAIN: Final = 5
WHAT: Final = "SGX quote v3"


@layout("SGX quote v3 header", HEADER_SIZE)
class Header(Struct):
    """The first 48 bytes. The SVNs here are never used: report and certificate have better ones."""

    version: int = at(0, U16)
    attestation_key_type: int = at(2, U16)
    qe_svn: int = at(8, U16)
    pce_svn: int = at(10, U16)
    qe_vendor_id: bytes = at(12, 16)
    user_data: bytes = at(28, 20)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quote, taken apart.

    Attributes:
        signed: header and report body, 432 bytes, as the attestation key signed them.
        header: 48 bytes.
        body: the quoted enclave's report body, 384 bytes.
        signature: 64 bytes r and s, over ``signed``.
        attestation_key: 64 bytes x and y on P-256.
        qe_report_bytes: 384 bytes, as the PCK signed them.
        qe_report: the same, as fields.
        qe_signature: 64 bytes r and s, over ``qe_report_bytes``.
        auth_data: at most 65535 bytes, bound by the quoting enclave's report data.
        certification_type: 1 to 7; 5 is a PCK chain.
        certification_data: the chain, PEM, leaf first, often ended by a NUL.
        padding: count of zero bytes after the quote.
    """

    signed: bytes
    header: Header
    body: ReportBody
    signature: bytes
    attestation_key: bytes
    qe_report_bytes: bytes
    qe_report: ReportBody
    qe_signature: bytes
    auth_data: bytes
    certification_type: int
    certification_data: bytes
    padding: int = 0

    def encode(self) -> bytes:
        """Write the quote, its padding included."""
        signature_data = b"".join(
            (
                self.signature,
                self.attestation_key,
                self.qe_report_bytes,
                self.qe_signature,
                len(self.auth_data).to_bytes(2, "little"),
                self.auth_data,
                self.certification_type.to_bytes(2, "little"),
                len(self.certification_data).to_bytes(4, "little"),
                self.certification_data,
            )
        )
        size = len(signature_data).to_bytes(4, "little")
        return self.signed + size + signature_data + bytes(self.padding)


def parse(data: bytes) -> Quote:
    """Read one version 3 quote; only zero bytes may follow it.

    Raises:
        UnsupportedError: another version, key type, or kind of TEE.
        FormatError: lengths that do not fit, reserved bytes set, or more than 64 KiB.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    version = version_of(data)
    if version != 3:
        raise UnsupportedError(f"SGX quote version {version}; supported: [3]", code="bad_version")
    r = Reader(data, WHAT)
    signed = r.take(SIGNED_SIZE, "signed part")
    header = Header.parse(signed[:HEADER_SIZE])
    if header.attestation_key_type != ECDSA_P256:
        raise UnsupportedError(
            f"{WHAT}.attestation_key_type at 0x2: want {ECDSA_P256}, got {header.attestation_key_type}",
            code="bad_type",
        )
    body = ReportBody.parse(signed[HEADER_SIZE:], base=HEADER_SIZE)
    inner = r.sub(r.u32("signature_data_size"), "signature_data")
    signature = inner.take(64, "signature")
    attestation_key = inner.take(64, "attestation_key")
    qe_offset = SIGNED_SIZE + 4 + inner.position
    qe_report = inner.take(BODY_SIZE, "qe_report")
    qe_signature = inner.take(64, "qe_signature")
    auth_data = inner.take(inner.u16("auth_data_size"), "auth_data")
    certification_type = inner.u16("certification_type")
    certification_data = inner.take(inner.u32("certification_data_size"), "certification_data")
    inner.end()
    padding = r.left
    r.zeros(padding, "padding")
    return Quote(
        signed=signed,
        header=header,
        body=body,
        signature=signature,
        attestation_key=attestation_key,
        qe_report_bytes=qe_report,
        qe_report=ReportBody.parse(qe_report, base=qe_offset),
        qe_signature=qe_signature,
        auth_data=auth_data,
        certification_type=certification_type,
        certification_data=certification_data,
        padding=padding,
    )


def version_of(data: bytes) -> int:
    """Read the version alone, 0..65535.

    Raises:
        FormatError: fewer than 2 bytes.
    """
    return Reader(data[:2], "SGX quote").u16("version")
