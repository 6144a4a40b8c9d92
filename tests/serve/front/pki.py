"""A certificate authority that is not Kluis's own, and what it signs for an operator."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def name_of(text: str) -> x509.Name:
    """A subject with one common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def alternative(name: str) -> x509.GeneralName:
    """A DNS name or an address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem_of(key: Any) -> bytes:
    """A private key, PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclasses.dataclass
class Operator:
    """An operator with a certificate authority of an organisation."""

    folder: Path
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = self.sign("root", self.key.public_key(), (), ca=True)
        (self.folder / "operator-ca.pem").write_bytes(self.root.public_bytes(Encoding.PEM))

    def sign(
        self,
        subject: str,
        key: Any,
        names: Sequence[str],
        *,
        ca: bool = False,
        begin: timedelta = timedelta(days=-1),
        end: timedelta = timedelta(days=30),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> x509.Certificate:
        """One certificate, for a key and names, as Python 3.13 wants them by default."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(subject))
            .issuer_name(name_of("root"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + begin)
            .not_valid_after(self.now + end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if ca:
            builder = builder.add_extension(
                x509.KeyUsage(
                    digital_signature=False,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=True,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        else:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            builder = builder.add_extension(
                x509.SubjectAlternativeName([alternative(each) for each in names]), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self, *names: str, key: Any = None, with_root: bool = True, **changed: Any
    ) -> tuple[Path, Path]:
        """Write ``chain.pem`` and ``key.pem``, and return their paths."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        chain, private = self.folder / "chain.pem", self.folder / "key.pem"
        leaf = self.sign(names[0][:64] if names else "none", key.public_key(), names, **changed)
        parts = [leaf, *([self.root] if with_root else [])]
        chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in parts))
        private.write_bytes(pem_of(key))
        os.chmod(private, 0o600)
        return chain, private
