"""X.509 certificates and CRLs as plain fields. Nothing here is verified.

``cryptography`` reads the DER; this module takes what verifiers need, refuses what they do not
expect, and lets no foreign exception out.

Spec: RFC 5280, "Certificate and Certificate Extensions Profile", "CRL and CRL Extensions Profile".
"""

from __future__ import annotations

import base64
import dataclasses
import re
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from kluis.errors import FormatError, UnsupportedError

MAX_CERTIFICATE: Final = 16 * 1024
MAX_CHAIN: Final = 4
MAX_CRL: Final = 1 << 20
# What pyca raises for odd bytes; a Warning where warnings are errors.
_FOREIGN: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,
)
_PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----(?:\r?\n)*"
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Certificate:
    """A certificate over P-256, taken apart.

    Attributes:
        der: the bytes.
        subject: DER of the name.
        issuer: DER of the name.
        common_name: the subject's only one.
        unit: the subject's organizational unit, or None.
        serial: at most 160 bits.
        not_before: aware.
        not_after: aware.
        key: the subject's, P-256.
        point: the same, 65 bytes.
        ca: basic constraints, cA.
        path_length: basic constraints, pathLen, or None.
        signs_data: key usage, digitalSignature.
        signs_certificates: key usage, keyCertSign.
        signs_crls: key usage, cRLSign.
        extensions: those that ``cryptography`` does not know, by dotted identifier.
        signed: the bytes that ``signature`` covers.
        signature: DER, ECDSA with SHA-256.
    """

    der: bytes
    subject: bytes
    issuer: bytes
    common_name: str
    unit: str | None
    serial: int
    not_before: datetime
    not_after: datetime
    key: ec.EllipticCurvePublicKey
    point: bytes
    ca: bool
    path_length: int | None
    signs_data: bool
    signs_certificates: bool
    signs_crls: bool
    extensions: dict[str, bytes]
    signed: bytes
    signature: bytes


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Crl:
    """A certificate revocation list, taken apart.

    Attributes:
        der: the bytes.
        issuer: DER of the name.
        this_update: aware.
        next_update: aware; a CRL without one is refused.
        revoked: serial numbers.
        signed: the bytes that ``signature`` covers.
        signature: DER, ECDSA with SHA-256.
    """

    der: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime
    revoked: frozenset[int]
    signed: bytes
    signature: bytes


def parse(der: bytes, what: str) -> Certificate:
    """Read one certificate.

    Args:
        der: at most 16 KiB.
        what: what it claims to be, for messages.

    Raises:
        UnsupportedError: not P-256 with SHA-256.
        FormatError: not a certificate, or without the fields that every certificate here has.
    """
    if len(der) > MAX_CERTIFICATE:
        raise FormatError(f"{what}: is {len(der)} bytes, must be at most {MAX_CERTIFICATE}", code="too_large")
    try:
        return _parse(der, what)
    except _FOREIGN as error:
        raise FormatError(
            f"{what}: is not an X.509 certificate: {_first_line(error)}", code="bad_encoding"
        ) from None


def _parse(der: bytes, what: str) -> Certificate:
    cert = x509.load_der_x509_certificate(der)
    key = cert.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnsupportedError(f"{what}: want a P-256 key", code="bad_type")
    if cert.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise UnsupportedError(
            f"{what}: want ECDSA with SHA-256, got {cert.signature_algorithm_oid.dotted_string}",
            code="bad_type",
        )
    subject = cert.subject
    constraints, usage, unknown = None, None, {}
    for extension in cert.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            constraints = value
        elif isinstance(value, x509.KeyUsage):
            usage = value
        elif isinstance(value, x509.UnrecognizedExtension):
            if extension.critical:
                raise UnsupportedError(
                    f"{what}: critical extension {extension.oid.dotted_string} is not known", code="bad_type"
                )
            unknown[extension.oid.dotted_string] = value.value
    if constraints is None or usage is None:
        missing = "basic constraints" if constraints is None else "key usage"
        raise FormatError(f"{what}: has no {missing}", code="cert_profile")
    return Certificate(
        der=der,
        subject=subject.public_bytes(),
        issuer=cert.issuer.public_bytes(),
        common_name=_only(subject, NameOID.COMMON_NAME, what) or "",
        unit=_only(subject, NameOID.ORGANIZATIONAL_UNIT_NAME, what),
        serial=cert.serial_number,
        not_before=cert.not_valid_before_utc,
        not_after=cert.not_valid_after_utc,
        key=key,
        point=key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        ca=constraints.ca,
        path_length=constraints.path_length,
        signs_data=usage.digital_signature,
        signs_certificates=usage.key_cert_sign,
        signs_crls=usage.crl_sign,
        extensions=unknown,
        signed=cert.tbs_certificate_bytes,
        signature=cert.signature,
    )


def parse_crl(der: bytes, what: str) -> Crl:
    """Read one CRL, at most 1 MiB.

    Raises:
        UnsupportedError: not ECDSA with SHA-256.
        FormatError: not a CRL, or without next update, number or authority key identifier.
    """
    if len(der) > MAX_CRL:
        raise FormatError(f"{what}: is {len(der)} bytes, must be at most {MAX_CRL}", code="too_large")
    try:
        crl = x509.load_der_x509_crl(der)
        if crl.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            raise UnsupportedError(
                f"{what}: want ECDSA with SHA-256, got {crl.signature_algorithm_oid.dotted_string}",
                code="bad_type",
            )
        present = {type(extension.value) for extension in crl.extensions}
        if not {x509.CRLNumber, x509.AuthorityKeyIdentifier} <= present:
            raise FormatError(f"{what}: has no CRL number or authority key identifier", code="cert_profile")
        if crl.next_update_utc is None:
            raise FormatError(f"{what}: has no next update", code="crl_expired")
        return Crl(
            der=der,
            issuer=crl.issuer.public_bytes(),
            this_update=crl.last_update_utc,
            next_update=crl.next_update_utc,
            revoked=frozenset(entry.serial_number for entry in crl),
            signed=crl.tbs_certlist_bytes,
            signature=crl.signature,
        )
    except _FOREIGN as error:
        raise FormatError(f"{what}: is not a CRL: {_first_line(error)}", code="bad_encoding") from None


def split_pem(data: bytes, what: str) -> tuple[bytes, ...]:
    """Split a PEM chain into DER certificates, at most 4; one NUL may end it.

    Raises:
        FormatError: anything but certificates, or none, or more.
    """
    text = data.removesuffix(b"\0")
    found: list[bytes] = []
    position = 0
    while position < len(text):
        match = _PEM.match(text, position)
        if match is None:
            raise FormatError(f"{what} at {position:#x}: is not a PEM certificate", code="bad_encoding")
        if len(found) == MAX_CHAIN:
            raise FormatError(f"{what}: more than {MAX_CHAIN} certificates", code="too_large")
        try:
            body = match[1].replace(b"\r", b"").replace(b"\n", b"")
            found.append(base64.b64decode(body, validate=True))
        except ValueError:
            raise FormatError(f"{what} at {position:#x}: is not base64", code="bad_encoding") from None
        position = match.end()
    if not found:
        raise FormatError(f"{what}: holds no certificate", code="truncated")
    return tuple(found)


def parse_pem(data: bytes, what: str) -> tuple[Certificate, ...]:
    """Read a PEM chain, at most 4 certificates.

    Raises:
        FormatError: as ``split_pem`` and ``parse``.
    """
    return tuple(parse(der, what) for der in split_pem(data, what))


def _only(name: x509.Name, oid: x509.ObjectIdentifier, what: str) -> str | None:
    found = name.get_attributes_for_oid(oid)
    if len(found) > 1:
        raise FormatError(f"{what}: subject has {len(found)} of one attribute, want 1", code="cert_profile")
    return str(found[0].value) if found else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
