"""Certificates of a service and of its nodes, such that strict verifiers accept them, and CCF's do.

The service's is an authority that its own key signed; a node's is issued by it, with no usages, since
CCF's tools take a node for a client.

Spec: RFC 5280; CCF, "Node Certificates".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOT_READABLE: Final = (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm)
"""What the library raises for a certificate, a request or a key that it cannot read."""
VALIDITY: Final = timedelta(days=90)
EARLY: Final = timedelta(minutes=1)
"""By how much a certificate is valid before it is made: clocks differ."""


def service_certificate(
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    name: str = "CCF Service",
    validity: timedelta = VALIDITY,
) -> str:
    """Make a service's own certificate, PEM.

    Args:
        key: the service's.
        now: aware.
        name: its common name.
        validity: from ``now`` on.
    """
    subject = _name(name)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(subject, subject, key.public_key(), now, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return _pem(builder, key)


def node_certificate(
    node_key: ec.EllipticCurvePublicKey,
    service_key: ec.EllipticCurvePrivateKey,
    service: str,
    now: datetime,
    *,
    names: Sequence[str] = ("localhost", "127.0.0.1"),
    validity: timedelta = VALIDITY,
) -> str:
    """Issue a node's certificate, PEM.

    Args:
        node_key: the node's.
        service_key: the service's.
        service: PEM of the service's certificate.
        now: aware.
        names: host names and addresses that clients use.
        validity: from ``now`` on.
    """
    issuer = x509.load_pem_x509_certificate(service.encode()).subject
    builder = (
        _builder(_name("CCF Node"), issuer, node_key, now, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(node_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(service_key.public_key()), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_host(each) for each in names]), critical=False)
    )
    return _pem(builder, service_key)


def node_request(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> str:
    """Make a node's request for a certificate, PEM.

    Args:
        key: the node's.
        names: host names and addresses that clients use.
    """
    names_wanted = x509.SubjectAlternativeName([_host(each) for each in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name("CCF Node"))
    request = builder.add_extension(names_wanted, critical=False).sign(key, hashes.SHA384())
    return request.public_bytes(Encoding.PEM).decode()


def member_certificate(key: ec.EllipticCurvePrivateKey, now: datetime, *, name: str = "member0") -> str:
    """Make a member's or user's own certificate, PEM: only its fingerprint counts."""
    subject = _name(name)
    return _pem(_builder(subject, subject, key.public_key(), now, timedelta(days=365)), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    validity: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLY)
        .not_valid_after(now + validity)
    )


def _pem(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    digest = hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
