"""The key that signs releases: generated inside at each start, with a certificate.

Its certificate comes from an issuer that the host names, or is self-signed. In an enclave, a second
certificate of the same key contains this enclave's evidence: only that one proves who signed. The header
contains it (``x-kluis-certificate``), because each of a vault's enclaves has its own signing key. The header
also names the vault, of all that such enclaves keep (``x-kluis-vault``). Both are private names in the sense
of RFC 7515.

Spec: RFC 7515, "x5c", "x5t", "x5t#S256".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.enclave.attested_tls.certificates import chain_of
from kluis.formats.encoding import b64
from kluis.formats.kluis import vouched
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.hashes import sha256

RELEASE, STATEMENT = "JWT", "kluis-key+jwt"
BITS: Final = 2048  # as Azure's; a release costs one signature
LIFE: Final = timedelta(days=3650)
BACKDATED: Final = timedelta(minutes=5)
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kluis key service")])


Certify: TypeAlias = Callable[[bytes], bytes]
"""Has an authority certify a key: a request (PKCS#10, PEM) in, a chain (PEM, leaf first) out."""
Vouch: TypeAlias = Callable[[bytes], EvidenceBundle | None]
"""Has this enclave quote a payload for the purpose ``app``; None outside an enclave."""


class Signer:
    """Signs this service's statements.

    Args:
        certify: by the service's own authority; None: the certificate is self-signed.
        vouch: makes evidence about the key.
        now: aware.
        vault: the vault's name, 32 bytes.

    Raises:
        FormatError: the authority did not return a chain.
        UsageError: its first certificate is for another key.
    """

    def __init__(self, certify: Certify | None, vouch: Vouch, now: datetime, vault: bytes) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
        self.own = self._make_own(vouch, now)
        self.chain = (self.own,) if certify is None else self._certificate_chain(certify)
        leaf = self.chain[0]
        # Azure names its keys by the certificate's SHA-1, and clients look them up so.
        thumbprint = hashlib.sha1(leaf, usedforsecurity=False).digest()
        header = {
            "alg": "RS256",
            "kid": thumbprint.hex().upper(),
            "x5t": b64.encode_url(thumbprint),
            "x5t#S256": b64.encode_url(sha256(leaf)),
            "x5c": [b64.encode(each) for each in self.chain],
            "x-kluis-vault": vault.hex(),
            "x-kluis-certificate": b64.encode(self.own),
        }
        # Because of its type, a statement cannot be mistaken for a release.
        self._release, self._statement = (
            b64.encode_url(msgspec.json.encode({**header, "typ": kind})) + "."
            for kind in (RELEASE, STATEMENT)
        )

    def __repr__(self) -> str:
        return "Signer()"

    def sign(self, payload: Mapping[str, Any]) -> str:
        """Sign a release: a compact JWS over ``payload`` as JSON."""
        return self._sign(self._release, payload)

    def state(self, payload: Mapping[str, Any]) -> str:
        """Sign a statement about a key, as a compact JWS with a separate type."""
        return self._sign(self._statement, payload)

    def _sign(self, header: str, payload: Mapping[str, Any]) -> str:
        signed = header + b64.encode_url(msgspec.json.encode(payload))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64.encode_url(signature)}"

    def _make_own(self, vouch: Vouch, now: datetime) -> bytes:
        at = now.replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_NAME)
            .issuer_name(_NAME)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - BACKDATED)
            .not_valid_after(at + LIFE)
        )
        spki = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        made = vouch(vouched.statement(spki))
        if made is not None:
            for oid, value in vouched.extensions(made):
                extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
                builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _certificate_chain(self, certify: Certify) -> tuple[bytes, ...]:
        request = x509.CertificateSigningRequestBuilder().subject_name(_NAME).sign(self._key, hashes.SHA256())
        chain = certify(request.public_bytes(Encoding.PEM))
        certificates = chain_of(chain, self._key.public_key(), "service")
        return tuple(each.public_bytes(Encoding.DER) for each in certificates)
