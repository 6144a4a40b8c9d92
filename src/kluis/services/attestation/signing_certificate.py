"""The certificate of a signing key: self-signed, named after its instance, with the enclave's evidence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.formats import b64, vouched
from kluis.formats.vouched import Vouched
from kluis.hashes import sha256

__all__ = ["Evidence", "Vouch", "certify", "key_id"]

BACKDATED: Final = timedelta(minutes=5)  # a relying party's clock may be behind ours
MOST_NAME: Final = 64  # RFC 5280, "ub-common-name"


class Evidence(Protocol):
    """A quote, and the two documents whose hashes stand in it, as ``kluis.enclave.quote`` gives them."""

    @property
    def quote(self) -> bytes:
        """DCAP."""
        ...

    @property
    def runtime_data(self) -> bytes:
        """Canonical JSON."""
        ...

    @property
    def launch_configuration(self) -> bytes:
        """Canonical JSON."""
        ...


Vouch: TypeAlias = Callable[[bytes], Evidence | None]
"""Has this enclave quote a payload, exactly as it is given, for the purpose ``app``."""


def key_id(key: rsa.RSAPublicKey) -> str:
    """A key's name: base64 of the SHA-256 of its SubjectPublicKeyInfo."""
    return b64.encode(sha256(_spki(key)))


def certify(private: rsa.RSAPrivateKey, url: str, now: datetime, life_seconds: int, vouch: Vouch) -> bytes:
    """Make the certificate of a key.

    Args:
        private: the key.
        url: of its instance: subject and issuer are ``CN=<url>``.
        now: aware; validity begins five minutes before it.
        life_seconds: of the certificate, after ``now``.
        vouch: makes evidence about the key.

    Returns:
        DER.
    """
    name = _name(url)
    at = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + timedelta(seconds=life_seconds))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(url)]), critical=False)
    )
    made = vouch(vouched.statement(_spki(private.public_key())))
    if made is not None:
        held = Vouched(made.quote, made.runtime_data, made.launch_configuration)
        for oid, value in held.extensions():
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
            builder = builder.add_extension(extension, critical=False)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.DER)


def _name(url: str) -> x509.Name:
    # Azure's own names are longer than a common name may be, too: clients compare the whole address.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, url, _validate=len(url) <= MOST_NAME)])


def _spki(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
