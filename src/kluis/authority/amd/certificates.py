"""Certificates and CRLs in the profile of AMD's, under names that mark them as emulated.

Spec: AMD 57230, "VCEK Certificate and KDS Interface Specification".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kluis.authority import issuing
from kluis.formats.snp.tcb import Product

LEVEL: Final = "vm"
CRL_LIFE: Final = timedelta(days=365)
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)
_HASH: Final = hashes.SHA384()


def ark(key: rsa.RSAPrivateKey, product: Product, now: datetime) -> x509.Certificate:
    """Sign the root, whose subject states the level ``vm``."""
    name = _name(f"ARK-{product}", LEVEL)
    return _signed_ca(_begin(name, name, key.public_key(), now), key, path_length=1)


def ask(
    key: rsa.RSAPublicKey, product: Product, issuer: x509.Certificate, by: rsa.RSAPrivateKey, now: datetime
) -> x509.Certificate:
    """Sign the certificate of the authority that issues VCEKs."""
    name = _name(f"SEV-{product}")
    return _signed_ca(_begin(name, issuer.subject, key, now), by, path_length=0)


def vcek(
    key: ec.EllipticCurvePublicKey,
    extensions: Mapping[str, bytes],
    issuer: x509.Certificate,
    by: rsa.RSAPrivateKey,
    now: datetime,
) -> x509.Certificate:
    """Sign the certificate of a processor's key at one TCB.

    Args:
        key: P-384.
        extensions: AMD's, by dotted identifier.
        issuer: the ASK.
        by: the key of ``issuer``.
        now: aware; validity starts five minutes before it and lasts ten years.
    """
    builder = _begin(_name("SEV-VCEK"), issuer.subject, key, now)
    for oid, value in extensions.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(by, _HASH, rsa_padding=_PSS)


def crl(issuer: x509.Certificate, key: rsa.RSAPrivateKey, revoked: tuple[int, ...], now: datetime) -> bytes:
    """Sign the root's CRL, valid for a year; DER.

    Args:
        issuer: the root.
        key: of the root.
        revoked: serial numbers.
        now: aware.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(issuing.whole(now - issuing.BACKDATED))
        .next_update(issuing.whole(now - issuing.BACKDATED + CRL_LIFE))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        entry = entry.revocation_date(issuing.whole(now - issuing.BACKDATED))
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, _HASH, rsa_padding=_PSS).public_bytes(Encoding.DER)


def _name(name: str, unit: str = "Engineering") -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, issuing.ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Kluis emulated {name} (no hardware)"),
        ]
    )


def _begin(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    start = now - issuing.BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuing.whole(start))
        .not_valid_after(issuing.whole(start + issuing.CERTIFICATE_LIFE))
    )


def _signed_ca(
    builder: x509.CertificateBuilder, by: rsa.RSAPrivateKey, *, path_length: int
) -> x509.Certificate:
    return (
        builder.add_extension(issuing.key_usage(ca=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .sign(by, _HASH, rsa_padding=_PSS)
    )
