"""The operator's own certificate and key, for clients that check a server's name.

The key comes from a file of the host, so the host can pose as the services to clients that check only a name.
It could do so before, with its loopback authority. Evidence is bound to the connection's exporter and not to
this key, so a client that requests evidence detects it. The reasons are in
docs/decisions/0042-the-operators-certificate-names-a-service.md.

Spec: RFC 5280; RFC 9525, "Verifying Service Identity".
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import ssl
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from kluis import files
from kluis.errors import FormatError, FreshnessError, UsageError
from kluis.frozen import frozen
from kluis.services.clock import Clock
from kluis.tee import keyfiles

LEAST_RSA_BITS: Final = 2048
CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


@frozen
class NamedKey:
    """A certificate chain and its key, checked.

    Attributes:
        chain: PEM, the server's certificate first.
        key: PEM, PKCS#8, unencrypted; in no message and no repr.
        ends: when the certificate expires.
    """

    chain: bytes
    key: bytes = dataclasses.field(repr=False)
    ends: datetime

    @classmethod
    def read(cls, certificate: Path, key: Path, names: Sequence[str], now: datetime) -> Self:
        """Read both files, and check that clients accept them.

        Links are followed, because clients of public authorities and Kubernetes replace files by links.

        1. Only this user can access the key's file.
        2. The key is RSA of 2048 bits or more, or of P-256 or P-384.
        3. The first certificate is for this key, and each further one signed the one before it.
        4. Each certificate is valid now.
        5. The first certificate is for servers.
        6. It contains every name.

        Args:
            certificate: path of a chain, PEM.
            key: path of a private key, PEM, not encrypted.
            names: DNS names and addresses that clients use.
            now: aware.

        Raises:
            UnavailableError: a file cannot be read, or others can access the key.
            FormatError: a file has other content.
            FreshnessError: a certificate is expired, or not valid yet.
            UsageError: the files do not belong together, or are not for these names.
        """
        secret = _load_key(keyfiles.read(key.resolve()), key)  # 1, 2
        chain = _load_chain(files.read(certificate.resolve(), keyfiles.MAX_SIZE), certificate)
        _check_chain(chain, secret, certificate, key)  # 3
        for one in chain:  # 4
            begin, end = one.not_valid_before_utc, one.not_valid_after_utc
            if now > end:
                raise FreshnessError(
                    f"{certificate}: expired on {end:%Y-%m-%dT%H:%M:%SZ}, used at {now:%Y-%m-%dT%H:%M:%SZ}",
                    hint="renew it, then start again, or send SIGHUP to kluis serve",
                )
            if now < begin:
                raise FreshnessError(
                    f"{certificate}: not valid before {begin:%Y-%m-%dT%H:%M:%SZ},"
                    f" used at {now:%Y-%m-%dT%H:%M:%SZ}",
                    hint="set the clock, if it is wrong",
                )
        _check_usage(chain[0], certificate)  # 5
        for name in names:  # 6
            if not covers(chain[0], name):
                raise UsageError(
                    f"{certificate}: want a certificate for {name!a}, got one for"
                    f" {', '.join(_names_of(chain[0])) or 'no name'}",
                    hint="name what the certificate contains with --name, or get one with this name",
                )
        return cls(
            chain=b"".join(one.public_bytes(Encoding.PEM) for one in chain),
            key=secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            ends=chain[0].not_valid_after_utc,
        )


class OwnCertificate:
    """The operator's certificate while services run: read at the start, and again on request.

    Args:
        certificate: path of the chain.
        key: path of the key.
        names: that clients use.
        clock: returns the time.

    Raises:
        KluisError: as :meth:`NamedKey.read`.
    """

    def __init__(self, certificate: Path, key: Path, names: Sequence[str], clock: Clock) -> None:
        self._paths = (certificate, key)
        self._names = tuple(names)
        self._clock = clock
        self._lock = threading.Lock()
        self.current = self._read()
        self.trust = ssl.create_default_context()
        # For this host's own requests to its services: the chain itself is trusted, regardless of its issuer.
        self.trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.trust.load_verify_locations(cadata=self.current.chain.decode())

    def reload(self) -> None:
        """Read the files again; if that fails, the current pair stays.

        Raises:
            KluisError: as :meth:`NamedKey.read`.
        """
        with self._lock:
            self.current = self._read()
            self.trust.load_verify_locations(cadata=self.current.chain.decode())

    def _read(self) -> NamedKey:
        return NamedKey.read(*self._paths, self._names, self._clock.now())

    def server_context(self) -> ssl.SSLContext:
        """TLS settings for a server in this process.

        Raises:
            KluisError: as :meth:`NamedKey.read`.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.apply(context)
        return context

    def apply(self, context: ssl.SSLContext) -> None:
        """Use the pair for new connections of a server in this process, read from the files again."""
        try:
            context.load_cert_chain(*self._paths)
        except (ssl.SSLError, OSError):  # they changed since they were checked
            raise FormatError(f"{self._paths[0]}: want the certificate of the key, got another's") from None


def covers(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate contains a DNS name or an address; a wildcard covers one label."""
    try:
        wanted = str(ipaddress.ip_address(name))
    except ValueError:
        wanted = name.lower()
    names = [each.lower() for each in _names_of(certificate)]
    return wanted in names or ("." in wanted and f"*.{wanted.partition('.')[2]}" in names)


def _names_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _load_key(pem: bytes, path: Path) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise FormatError(
            f"{path}: want a key without a passphrase, got an encrypted one",
            hint="openssl pkey -in KEY -out PLAIN, and chmod 600 PLAIN",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise FormatError(f"{path}: want a private key, PEM") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES):
        return key
    raise FormatError(f"{path}: want a key of RSA with {LEAST_RSA_BITS} bits or more, P-256 or P-384")


def _load_chain(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise FormatError(f"{path}: want certificates, PEM, the server's first") from None


def _check_chain(
    chain: list[x509.Certificate],
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    certificate: Path,
    key_path: Path,
) -> None:
    if chain[0].public_key() != key.public_key():
        raise UsageError(
            f"{certificate}: want the certificate of {key_path} first, got one of another key",
            hint="the file has the server's certificate first, its issuers after it",
        )
    for number, (below, above) in enumerate(itertools.pairwise(chain), start=2):
        try:
            below.verify_directly_issued_by(above)
        except Exception:  # noqa: BLE001 - any way in which a signature does not fit is one answer
            raise UsageError(
                f"{certificate}: want certificate {number} to be the issuer of the one before it, got another"
            ) from None


def _check_usage(certificate: x509.Certificate, path: Path) -> None:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages):
        raise UsageError(f"{path}: want a certificate for servers (serverAuth), got one for other uses")
