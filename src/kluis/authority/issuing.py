"""Certificates, CRLs and raw signatures in the profile of Intel's SGX PKI.

Spec: Intel "SGX PCK Certificate and CRL Profile Specification".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kluis.formats.sgx import extension

BACKDATED: Final = timedelta(minutes=5)  # a relying party's clock may be behind ours
CERTIFICATE_LIFE: Final = timedelta(days=3650)
CRL_URL: Final = "https://localhost/sgx/certification/v4/pckcrl"
ORGANIZATION: Final = "Kluis emulated platform (no hardware)"


def issue(
    common_name: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    path_length: int | None = None,
    unit: str | None = None,
    sgx: bytes | None = None,
) -> x509.Certificate:
    """Sign one certificate.

    Args:
        common_name: of the subject.
        public_key: the subject's, P-256.
        issuer: the issuer's certificate; None makes a self-signed one.
        issuer_key: the key that signs.
        now: aware; validity starts five minutes before it and lasts ten years.
        path_length: of a CA certificate; None makes an end entity.
        unit: the subject's organizational unit, if it has one.
        sgx: the value of the SGX extension, if it has one.
    """
    subject = _name(common_name, unit)
    ca = path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(whole(now - BACKDATED))
        .not_valid_after(whole(now - BACKDATED + CERTIFICATE_LIFE))
        .add_extension(_key_identifier(issuer_key.public_key()), critical=False)
        .add_extension(_crl_points(), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(key_usage(ca=ca, content_commitment=not ca), critical=True)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    )
    if sgx is not None:
        oid = x509.ObjectIdentifier(extension.OID)
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, sgx), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def crl(
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    life: timedelta,
    revoked: Iterable[tuple[int, datetime]],
) -> bytes:
    """Sign a CRL of (serial number, when), valid for ``life``; DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(whole(now - BACKDATED))
        .next_update(whole(now - BACKDATED + life))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(_key_identifier(key.public_key()), critical=False)
    )
    for serial, when in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(when)
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            .build()
        )
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def carrying(
    root: bytes,
    key: ec.EllipticCurvePrivateKey,
    extensions: Iterable[tuple[str, bytes]],
    now: datetime,
    life: timedelta,
) -> bytes:
    """Sign another certificate for a root's name and key, which issues nothing but carries extensions.

    Args:
        root: the root's certificate, PEM.
        key: the root's.
        extensions: identifier and value of each.
        now: aware; validity starts five minutes before it.
        life: validity period.

    Returns:
        DER.
    """
    name = x509.load_pem_x509_certificate(root).subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(whole(now - BACKDATED))
        .not_valid_after(whole(now - BACKDATED + life))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    for oid, value in extensions:
        unrecognized = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unrecognized, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign with ECDSA P-256 and SHA-256: 64 bytes, r and s big-endian."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def pem(certificate: x509.Certificate) -> str:
    """The certificate as text."""
    return certificate.public_bytes(Encoding.PEM).decode()


def whole(when: datetime) -> datetime:
    """``when`` in UTC, in whole seconds, rounded down."""
    return when.astimezone(UTC).replace(microsecond=0)


def zulu(when: datetime) -> str:
    """``when`` in Intel's format: ``2026-01-31T00:00:00Z``."""
    return whole(when).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name(common_name: str, unit: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if unit is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION))
    return x509.Name(parts)


def _key_identifier(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _crl_points() -> x509.CRLDistributionPoints:
    url = x509.UniformResourceIdentifier(CRL_URL)
    return x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])


def key_usage(*, ca: bool, content_commitment: bool = False) -> x509.KeyUsage:
    """The key usage: an authority's key signs certificates and lists, another key signs data."""
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
