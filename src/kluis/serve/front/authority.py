"""The host's certificate authority for services on this machine, for clients that check a server's name.

Its certificate only proves that this host runs the service; evidence, over attested TLS, proves which code
answers. Spec: RFC 5280; the names of RFC 6125.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kluis import files
from kluis.authority import issuing
from kluis.errors import AuthenticityError, FormatError, FreshnessError, UnavailableError
from kluis.tee import keyfiles

NAME: Final = "Kluis services on this machine"
ROOT_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=90)
BACKDATED: Final = timedelta(minutes=5)
START_AGAIN: Final = "rm -r {folder}, start, and give clients the new root.pem"


class LoopbackAuthority:
    """Signs certificates for services of one state directory.

    Args:
        key: of the authority.
        root: its certificate.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, root: x509.Certificate) -> None:
        self._key = key
        self._root = root

    @classmethod
    def load_or_create(cls, folder: Path, now: datetime) -> Self:
        """Load the authority's key and certificate from ``folder``, or create them there.

        Raises:
            UnavailableError: a file is another user's, or accessible to others.
            FormatError: a file is damaged.
            FreshnessError: it is expired or not yet valid, so no client trusts it.
        """
        if not (folder / "root.key").exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
            root = _issue(name, key.public_key(), name, key, now, ROOT_LIFE, ())
            files.write(folder / "root.pem", root.public_bytes(Encoding.PEM))
            keyfiles.save_key(folder / "root.key", key)
        key = keyfiles.load_key(folder / "root.key")
        try:
            root = x509.load_pem_x509_certificate(keyfiles.read(folder / "root.pem"))
        except ValueError:
            raise FormatError(f"{folder / 'root.pem'}: want a certificate, PEM") from None
        if root.public_key() != key.public_key():
            raise FormatError(
                f"{folder / 'root.pem'}: want the certificate of the key in root.key, got another's",
                hint=f"put both back from a backup; or {START_AGAIN.format(folder=folder)}",
            )
        begin, end = root.not_valid_before_utc, root.not_valid_after_utc
        if not begin <= now <= end:
            raise FreshnessError(
                f"{folder / 'root.pem'}: want {begin:%Y-%m-%d} to {end:%Y-%m-%d}, got {now:%Y-%m-%d}",
                hint=f"set the clock, if that is wrong; or {START_AGAIN.format(folder=folder)}",
            )
        return cls(key, root)

    def root_pem(self) -> bytes:
        """Its certificate, PEM, which clients trust."""
        return self._root.public_bytes(Encoding.PEM)

    def sign(self, request: bytes, names: Sequence[str], now: datetime) -> bytes:
        """Sign a certificate for the key of ``request``, valid for 90 days.

        Args:
            request: PKCS#10, PEM; only its key is used.
            names: DNS names, one of which may begin with ``*.``, and IP addresses.
            now: aware.

        Returns:
            The chain, PEM: the certificate, then the root.

        Raises:
            FormatError: not a request.
            AuthenticityError: its sender does not have the key.
        """
        try:
            csr = x509.load_pem_x509_csr(request)
            holds = csr.is_signature_valid
        except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
            raise FormatError("certificate request: want PKCS#10, PEM") from None
        if not holds:
            raise AuthenticityError("certificate request: want it signed by its own key", code="signature")
        return self._chain(csr.public_key(), names, now)

    def server_context(self, folder: Path, names: Sequence[str], now: datetime) -> ssl.SSLContext:
        """TLS settings for a server in this process, with a separate key, stored in ``folder``.

        Raises:
            UnavailableError: the folder cannot be written.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.renew(context, folder, names, now)
        return context

    def renew(self, context: ssl.SSLContext, folder: Path, names: Sequence[str], now: datetime) -> None:
        """Replace the key and certificate of a running server, for new connections.

        Raises:
            UnavailableError: the folder cannot be written; the server keeps its current ones.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = folder / "server.pem"
        try:
            files.write(path, pem + self._chain(key.public_key(), names, now))
        except OSError as error:
            raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from None
        context.load_cert_chain(path)

    def _chain(self, key: CertificatePublicKeyTypes, names: Sequence[str], now: datetime) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        leaf = _issue(subject, key, self._root.subject, self._key, now, LEAF_LIFE, names)
        return leaf.public_bytes(Encoding.PEM) + self.root_pem()


def _issue(
    subject: x509.Name,
    key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
    names: Sequence[str],
) -> x509.Certificate:
    """Issue one certificate: an authority's without ``names``, a server's with them."""
    ca = not names
    usage = issuing.key_usage(ca=ca)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not ca:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        ).add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
