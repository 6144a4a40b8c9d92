"""Parse DCAP quotes, versions 3, 4 and 5, for SGX and TDX, and write them back. Nothing here is verified.

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "Quote Format" (Version 3); Intel "TDX DCAP
Quoting Library API", "Quote Format" (Versions 4 and 5). Integers are little-endian; signatures and
keys are pairs of 32-byte big-endian numbers.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.layout import U16, U32, Struct, at, layout
from kluis.formats.encoding.reader import Reader
from kluis.formats.sgx import certification
from kluis.formats.sgx.certification import CertificationType
from kluis.formats.sgx.report import BODY_SIZE, ReportBody
from kluis.formats.tdx.report import TdReport, TdReport15, TdReport15Ex
from kluis.frozen import frozen

HEADER_SIZE: Final = 48
DESCRIPTOR_SIZE: Final = 6
SIGNED_SIZE: Final = HEADER_SIZE + BODY_SIZE
MAX_SIZE: Final = 64 * 1024
QE_VENDOR_INTEL: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
USER_DATA: Final = slice(28, 48)
"""The bytes of a quote that are its header's user data."""
# The prefix of these if an emulated Kluis platform made the quote, not hardware.
NO_HARDWARE: Final = b"KLUIS-NO-HARDWARE"
ECDSA_P256: Final = 2
TEE_SGX: Final = 0x00
TEE_TDX: Final = 0x81
PCK_CHAIN: Final = CertificationType.PCK_CHAIN
VERSIONS: Final = (3, 4, 5)
_BEGINS: Final = tuple(version.to_bytes(2, "little") for version in VERSIONS)

Body = ReportBody | TdReport
_NAMES: Final = {TEE_SGX: "SGX", TEE_TDX: "TDX"}
_DEFAULT_BODY: Final[dict[int, type[Body]]] = {TEE_SGX: ReportBody, TEE_TDX: TdReport}
# Version 5 describes its body: type, and the TEE that makes it.
BODY_TYPES: Final[dict[int, tuple[int, type[Body]]]] = {
    1: (TEE_SGX, ReportBody),
    2: (TEE_TDX, TdReport),
    3: (TEE_TDX, TdReport15),
    4: (TEE_TDX, TdReport15Ex),
}


@layout("DCAP quote header", HEADER_SIZE)
class Header(Struct):
    """The first 48 bytes. Its SVNs are never used: report and certificate have better ones."""

    version: int = at(0, U16)
    attestation_key_type: int = at(2, U16)
    tee_type: int = at(4, U32)
    qe_svn: int = at(8, U16)
    pce_svn: int = at(10, U16)
    qe_vendor_id: bytes = at(12, 16)
    user_data: bytes = at(28, 20)


@frozen(kw_only=True)
class Quote:
    """A parsed quote.

    Attributes:
        signed: header and body, as the attestation key signed them; 432 to 939 bytes.
        header: 48 bytes.
        body: the report body of the enclave or of the trust domain.
        signature: 64 bytes r and s, over ``signed``.
        attestation_key: 64 bytes x and y on P-256.
        qe_report_bytes: 384 bytes, as the PCK signed them.
        qe_report: the same, parsed.
        qe_signature: 64 bytes r and s, over ``qe_report_bytes``.
        auth_data: at most 65535 bytes, bound by the quoting enclave's report data.
        certification_type: 1 to 7, never 6; 5 is a PCK chain. From version 4 on it is the inner type.
        certification_data: the chain, PEM, leaf first, often ended by a NUL.
        padding: count of zero bytes after the quote.
    """

    signed: bytes
    header: Header
    body: Body
    signature: bytes
    attestation_key: bytes
    qe_report_bytes: bytes
    qe_report: ReportBody
    qe_signature: bytes
    auth_data: bytes
    certification_type: int
    certification_data: bytes
    padding: int = 0

    @property
    def name(self) -> str:
        """The kind and version, such as ``TDX quote v4``."""
        return f"{_NAMES[self.header.tee_type]} quote v{self.header.version}"

    @property
    def certified(self) -> bytes:
        """Everything that certifies the attestation key, from the key on, without the outer type."""
        return b"".join(
            (
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

    def encode(self) -> bytes:
        """Write the quote, including its padding."""
        certified = self.certified
        if self.header.version > 3:
            key, rest = certified[:64], certified[64:]
            outer = CertificationType.QE_REPORT.to_bytes(2, "little")
            certified = key + outer + len(rest).to_bytes(4, "little") + rest
        signature_data = self.signature + certified
        size = len(signature_data).to_bytes(4, "little")
        return self.signed + size + signature_data + bytes(self.padding)


def parse(data: bytes) -> Quote:
    """Parse one quote; only zero bytes may follow it.

    Raises:
        UnsupportedError: another version, key type, kind of TEE, body or certification data.
        FormatError: lengths that do not fit, reserved bytes set, or more than 64 KiB.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"DCAP quote: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    version = version_of(data)
    if version not in VERSIONS:
        raise UnsupportedError(
            f"DCAP quote version {version}; supported: {list(VERSIONS)}", code="bad_version"
        )
    r = Reader(data, f"DCAP quote v{version}")
    header = Header.parse(r.take(HEADER_SIZE, "header"))
    body_class = _check_header(header, r)
    body_at = r.position
    body_bytes = r.take(body_class.SIZE, "body")
    signed = data[: r.position]
    body = body_class.parse(body_bytes, base=body_at)
    size = r.u32("signature_data_size")
    base = r.position
    inner = r.sub(size, "signature_data")
    signature = inner.take(64, "signature")
    attestation_key = inner.take(64, "attestation_key")
    if version > 3:
        base += inner.position + DESCRIPTOR_SIZE
        outer, inner = inner, _enter(inner)
        outer.end()
    qe_offset = base + inner.position
    qe_report = inner.take(BODY_SIZE, "qe_report")
    qe_signature = inner.take(64, "qe_signature")
    auth_data = inner.take(inner.u16("auth_data_size"), "auth_data")
    type_at = base + inner.position
    certification_type = certification.kind(inner.u16("certification_type"), r.what, type_at)
    if certification_type is CertificationType.QE_REPORT:
        raise UnsupportedError(
            f"{r.what}.certification_type at {type_at:#x}: want how the platform is certified, "
            "got another quoting enclave's report",
            code="bad_type",
        )
    certification_data = inner.take(inner.u32("certification_data_size"), "certification_data")
    inner.end()
    padding = r.left
    if padding:
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
    """Read only the version, 0..65535.

    Raises:
        FormatError: fewer than 2 bytes.
    """
    if len(data) < 2:
        raise FormatError(f"DCAP quote.version at 0x0: needs 2 bytes, {len(data)} left", code="truncated")
    return data[0] | data[1] << 8


def begins(data: bytes) -> bool:
    """Whether ``data`` starts with a quote version and any key type."""
    return data[:2] in _BEGINS and data[2:4] not in (b"", b"\0\0")


def matches(data: bytes, tee: int) -> bool:
    """Whether ``data`` starts like a quote of this TEE: version, key type, TEE type.

    Versions 1 to 9 are accepted, so that the error names an unknown version and does not mistake the data for
    another format.
    """
    head = data[:8]
    return (
        len(data) >= HEADER_SIZE
        and 1 <= int.from_bytes(head[:2], "little") <= 9
        and 1 <= int.from_bytes(head[2:4], "little") <= 9
        and int.from_bytes(head[4:], "little") == tee
    )


def _check_header(header: Header, r: Reader) -> type[Body]:
    """The class of the body, from the header and, in version 5, the descriptor after it."""
    if header.attestation_key_type != ECDSA_P256:
        raise UnsupportedError(
            f"{r.what}.attestation_key_type at 0x2: want {ECDSA_P256}, got {header.attestation_key_type}",
            code="bad_type",
        )
    known = (TEE_SGX,) if header.version == 3 else (TEE_SGX, TEE_TDX)
    if header.tee_type not in known:
        wanted = " or ".join(f"{tee:#x}" for tee in known)
        raise UnsupportedError(
            f"{r.what}.tee_type at 0x4: want {wanted}, got {header.tee_type:#x}", code="bad_type"
        )
    if header.version < 5:
        return _DEFAULT_BODY[header.tee_type]
    body_type, size = r.u16("body_type"), r.u32("body_size")
    tee, body_class = BODY_TYPES.get(body_type, (None, ReportBody))
    if tee != header.tee_type:
        raise UnsupportedError(
            f"{r.what}.body_type at 0x30: want one of {_NAMES[header.tee_type]}, got {body_type}",
            code="bad_type",
        )
    if size != body_class.SIZE:
        raise FormatError(
            f"{r.what}.body_size at 0x32: want {body_class.SIZE} for body type {body_type}, got {size}",
            code="bad_length",
        )
    return body_class


def _enter(inner: Reader) -> Reader:
    """From version 4 on, report and certification data are within certification data of type 6."""
    outer_type = inner.u16("certification_type")
    if outer_type != CertificationType.QE_REPORT:
        raise UnsupportedError(
            f"{inner.what}.certification_type: want {CertificationType.QE_REPORT.value}, got {outer_type}",
            code="bad_type",
        )
    return inner.sub(inner.u32("certification_data_size"), "certification_data")
