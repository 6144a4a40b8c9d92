"""Parse Open Enclave's headers before a report and before evidence, and the claims after a quote.

Nothing here is verified. Spec: Open Enclave SDK 0.19, ``openenclave/attestation/sgx/evidence.h``
(format identifiers, structure of evidence), ``internal/report.h``. Integers are little-endian.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.reader import Reader
from kluis.formats.x509 import write_pem
from kluis.frozen import frozen

# Extensions of certificates, old identifiers and new.
REPORT_OIDS: Final = ("1.2.840.113556.10.1.1", "1.3.6.1.4.1.311.105.1")
EVIDENCE_OIDS: Final = ("1.2.840.113556.10.1.2", "1.3.6.1.4.1.311.105.2")

SGX_ECDSA: Final = bytes.fromhex("a3a21e871b4d4014b70aa125d2fbcd8c")
LEGACY_REPORT: Final = bytes.fromhex("c8303454d9234c2ca691df7def460a76")
RAW_QUOTE: Final = bytes.fromhex("1923d91e12d24c72b22025cd8dace871")
_OTHERS: Final = {
    bytes.fromhex("09268c336e0b45e58a2715644d0ef89a"): "a local report, for its own platform only",
    bytes.fromhex("f228aa3fde4d49d3884cb2aa87a50da6"): "an EPID quote, whose service has ended",
    bytes.fromhex("5c35d290a2c24c559e135ad732746c88"): "an EPID quote, whose service has ended",
}
_FORMATS: Final = {SGX_ECDSA, LEGACY_REPORT, RAW_QUOTE, *_OTHERS}

MAX_SIZE: Final = 1 << 20
_REPORT_VERSION: Final = 1
_EVIDENCE_VERSION: Final = 3
_LOCAL: Final = 1
_REMOTE: Final = 2
_BODY_AND_LENGTH: Final = 436
_QUOTE_V3: Final = b"\3\0\2\0"
_CLAIMS_VERSION: Final = b"\1" + bytes(7)
_REPORT: Final = "Open Enclave report"
_EVIDENCE: Final = "Open Enclave evidence"


@frozen
class Evidence:
    """A quote, and the custom claims whose SHA-256 is in its report data.

    Attributes:
        format: 16 bytes, the format's identifier.
        quote: the quote.
        claims: custom claims; None if the format has none.
    """

    format: bytes
    quote: bytes
    claims: bytes | None

    def encode(self) -> bytes:
        """Write it after its header."""
        data = self.quote + (self.claims or b"")
        if self.format == LEGACY_REPORT:
            data = encode_report(self.quote)
        header = _EVIDENCE_VERSION.to_bytes(4, "little") + self.format + len(data).to_bytes(8, "little")
        return header + data


def matches_report(data: bytes) -> bool:
    """Whether bytes start like a report's header, local or remote, and have its length."""
    head, kind = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    fits = int.from_bytes(data[8:16], "little") == len(data) - 16
    return head == _REPORT_VERSION and kind in (_LOCAL, _REMOTE) and fits


def matches_evidence(data: bytes) -> bool:
    """Whether bytes start like evidence of a known format, supported or not."""
    return int.from_bytes(data[:4], "little") == _EVIDENCE_VERSION and data[4:20] in _FORMATS


def matches_bare(data: bytes) -> bool:
    """Whether bytes are a quote of version 3 directly followed by claims: evidence without a header."""
    if data[:4] != _QUOTE_V3:
        return False
    end = _BODY_AND_LENGTH + int.from_bytes(data[_BODY_AND_LENGTH - 4 : _BODY_AND_LENGTH], "little")
    return data[end : end + 8] == _CLAIMS_VERSION


def parse_report(data: bytes) -> bytes:
    """Parse a report's header; return the quote after it.

    Raises:
        FormatError: malformed.
        UnsupportedError: a local report, or another version.
    """
    reader = _reader(data, _REPORT)
    version, kind = reader.u32("version"), reader.u32("type")
    if version != _REPORT_VERSION:
        raise UnsupportedError(
            f"{_REPORT}.version at 0x0: want {_REPORT_VERSION}, got {version}", code="bad_version"
        )
    if kind != _REMOTE:
        raise UnsupportedError(
            f"{_REPORT}.type at 0x4: want {_REMOTE}, a remote report, got {kind}",
            hint="a local report can be checked only on its own platform" if kind == _LOCAL else None,
            code="signer_kind_mismatch",
        )
    quote = reader.take(reader.u64("size"), "quote")
    reader.end()
    return quote


def encode_report(quote: bytes) -> bytes:
    """Prepend a remote report's header to a quote."""
    head = _REPORT_VERSION.to_bytes(4, "little") + _REMOTE.to_bytes(4, "little")
    return head + len(quote).to_bytes(8, "little") + quote


def parse_evidence(data: bytes) -> Evidence:
    """Parse evidence with its header.

    Raises:
        FormatError: malformed.
        UnsupportedError: another version, or a format that cannot be verified remotely.
    """
    reader = _reader(data, _EVIDENCE)
    version, kind = reader.u32("version"), reader.take(16, "format")
    if version != _EVIDENCE_VERSION:
        raise UnsupportedError(
            f"{_EVIDENCE}.version at 0x0: want {_EVIDENCE_VERSION}, got {version}", code="bad_version"
        )
    body = reader.take(reader.u64("size"), "data")
    reader.end()
    if kind == LEGACY_REPORT:
        return Evidence(kind, parse_report(body), None)
    if kind == RAW_QUOTE:
        return Evidence(kind, body, None)
    if kind != SGX_ECDSA:
        raise UnsupportedError(
            f"{_EVIDENCE}.format at 0x4: {_OTHERS.get(kind, 'is of no known format')}",
            code="signer_kind_mismatch",
        )
    quote, claims = split_claims(body)
    return Evidence(kind, quote, claims)


def split_claims(data: bytes) -> tuple[bytes, bytes]:
    """Split custom claims from a quote of version 3, at the length that the quote states.

    Raises:
        FormatError: the quote is cut short.
    """
    reader = Reader(data, f"{_EVIDENCE}.data")
    reader.take(_BODY_AND_LENGTH - 4, "quote body")
    reader.take(reader.u32("signature length"), "signature")
    return data[: reader.position], data[reader.position :]


def pem_of(spki: bytes) -> bytes:
    """The form of a public key that Open Enclave hashes: PEM, lines of 64 characters, and a NUL after it."""
    return write_pem(spki, "PUBLIC KEY") + b"\0"


def _reader(data: bytes, what: str) -> Reader:
    if len(data) > MAX_SIZE:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    return Reader(data, what)
