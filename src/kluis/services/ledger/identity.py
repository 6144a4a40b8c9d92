"""Who a ledger's service and node are: two P-384 keys, and the certificates that clients see.

Clients pin the service's certificate; its key is made inside, once, and signs each node's certificate. A
node's key lives as long as its process. The host gives the time and the names, and replaces neither key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from OpenSSL import SSL

from kluis.enclave.attested_tls.link import server_context
from kluis.errors import FormatError, UsageError
from kluis.hashes import sha256
from kluis.ledger import certificates
from kluis.ledger.signer import key_id

MOST_NAMES: Final = 64


class ServiceIdentity:
    """A service's key and certificate.

    Attributes:
        key: P-384.
        certificate: PEM, self-signed.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: str) -> None:
        self.key = key
        self.certificate = certificate

    @classmethod
    def make(cls, name: str, now: datetime, days: int) -> ServiceIdentity:
        """A new one, whose certificate has this common name."""
        key = ec.generate_private_key(ec.SECP384R1())
        validity = timedelta(days=days)
        return cls(key, certificates.service_certificate(key, now, name=name, validity=validity))

    @classmethod
    def load(cls, key: bytes, certificate: str) -> ServiceIdentity:
        """One that was kept: PKCS#8 DER, and PEM.

        Raises:
            FormatError: it is not one.
        """
        try:
            loaded = load_der_private_key(key, None)
        except ValueError:
            raise FormatError("service key: is not one") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise FormatError("service key: want one on P-384, got another")
        return cls(loaded, certificate)

    def __repr__(self) -> str:
        return f"<ServiceIdentity {self.digest.hex()}>"

    def private_bytes(self) -> bytes:
        """The key, PKCS#8 DER: only for the sealed store."""
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @property
    def digest(self) -> bytes:
        """SHA-256 of the certificate's DER, 32 bytes."""
        loaded = x509.load_pem_x509_certificate(self.certificate.encode())
        return sha256(loaded.public_bytes(Encoding.DER))


class NodeIdentity:
    """A node's key, made when its process starts, and the certificate that the service issued for it.

    Attributes:
        key: P-384.
        certificate: PEM.
        id: SHA-256 of its SubjectPublicKeyInfo, hexadecimal.
        encryption_key: RSA, for what other nodes send to it.

    Args:
        service: issues the certificate.
        names: DNS names and addresses that clients use, 1 to 64.
        now: the host's time.
        days: that the certificate is valid.

    Raises:
        UsageError: too many names, or an invalid one.
    """

    def __init__(self, service: ServiceIdentity, names: Sequence[str], now: datetime, days: int) -> None:
        if not 1 <= len(names) <= MOST_NAMES:
            raise UsageError(f"names: want 1..{MOST_NAMES}, got {len(names)}")
        self._names = tuple(names)
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.encryption_key = rsa.generate_private_key(65537, 2048)
        self.id = key_id(self.key.public_key())
        try:
            self.certificate = certificates.node_certificate(
                self.key.public_key(),
                service.key,
                service.certificate,
                now,
                names=names,
                validity=timedelta(days=days),
            )
        except ValueError:
            raise UsageError(f"names: want DNS names in ASCII or addresses, got {list(names)!a}") from None

    def request(self) -> str:
        """A request for a certificate, PEM, as a ledger records it of each node."""
        return certificates.node_request(self.key, self._names)

    def renew(self, certificate: str) -> bool:
        """Use another certificate, PEM, if it is of the node's key; gives whether it is."""
        issued = x509.load_pem_x509_certificate(certificate.encode()).public_key()
        if issued != self.key.public_key():
            return False
        self.certificate = certificate
        return True


class Shown:
    """What a node's listener shows, once there is a node."""

    def __init__(self) -> None:
        self._context: SSL.Context | None = None

    @property
    def context(self) -> SSL.Context:
        """A server's settings.

        Raises:
            UsageError: there is no node yet.
        """
        if self._context is None:
            raise UsageError("serve: want a node that has begun, got none", hint="begin()")
        return self._context

    def show(self, node: NodeIdentity) -> None:
        """Show a node's certificate to clients from now on, and ask them for theirs."""
        certificate = x509.load_pem_x509_certificate(node.certificate.encode())
        self._context = server_context(node.key, [certificate], ask_clients=True)


def public_pem(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    """A public key, PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
