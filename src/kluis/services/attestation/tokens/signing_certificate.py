"""The certificate of a signing key: self-signed, named after its instance, with the enclave's evidence.

Spec: RFC 5280, "Basic Certificate Fields".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.formats import x509
from kluis.formats.encoding import b64, der
from kluis.formats.kluis import vouched
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.sgx import quote as dcap_quote
from kluis.hashes import sha256

BACKDATED: Final = timedelta(minutes=5)  # a relying party's clock may be behind ours
SERIAL_BYTES: Final = 16
FIRST_GENERALIZED: Final = 2050  # RFC 5280, "Validity"
_VERSION_3: Final = b"\xa0\x03\x02\x01\x02"
_RS256: Final = der.element(der.SEQUENCE, der.oid("1.2.840.113549.1.1.11"), b"\x05\x00")
_COMMON_NAME: Final = der.oid("2.5.4.3")
_ALTERNATIVE_NAME: Final = "2.5.29.17"
_EXTENSIONS: Final = 0xA3
_URI: Final = 0x86
_UTF8: Final = 0x0C
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18


Vouch: TypeAlias = Callable[[bytes], EvidenceBundle | None]
"""Has this enclave quote a payload, exactly as it is given, for the purpose ``app``."""


def key_id(key: rsa.RSAPublicKey) -> str:
    """A key's name: base64 of the SHA-256 of its SubjectPublicKeyInfo."""
    return b64.encode(sha256(_spki(key)))


def stands_on(certificate: bytes) -> tuple[bytes, ...]:
    """The subjects of a certificate's evidence: image, platform versions, and the platform's certificates.

    Args:
        certificate: DER, from :func:`certify`.

    Returns:
        Empty if there is no evidence.
    """
    read = x509.parse(certificate, "signing certificate")
    if vouched.QUOTE_OID not in read.extensions:
        return ()
    quote = dcap_quote.parse(vouched.evidence_in(read).quote)
    body = quote.body
    return body.mrenclave, body.cpusvn, quote.certification_data  # type: ignore[union-attr]


def certify(
    private: rsa.RSAPrivateKey, url: str, now: datetime, life_seconds: int, vouch: Vouch, settings: bytes
) -> bytes:
    """Create the certificate of a key.

    Args:
        private: the key.
        url: of its instance: subject and issuer are ``CN=<url>``.
        now: aware; validity begins five minutes before it.
        life_seconds: of the certificate, after ``now``.
        vouch: makes evidence about the key.
        settings: digest of the service's settings, 32 bytes; included in the evidence.

    Returns:
        DER.
    """
    at = now.astimezone(UTC)
    spki = _spki(private.public_key())
    name = _name(url)
    extensions = [(_ALTERNATIVE_NAME, der.element(der.SEQUENCE, der.element(_URI, url.encode())))]
    made = vouch(vouched.statement(spki, settings))
    if made is not None:
        extensions += vouched.extensions(made)
    signed = der.element(
        der.SEQUENCE,
        _VERSION_3,
        der.integer(int.from_bytes(os.urandom(SERIAL_BYTES), "big") | 1),
        _RS256,
        name,
        der.element(der.SEQUENCE, _time(at - BACKDATED), _time(at + timedelta(seconds=life_seconds))),
        name,
        spki,
        der.element(_EXTENSIONS, der.element(der.SEQUENCE, *(_extension(*each) for each in extensions))),
    )
    signature = private.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return der.element(der.SEQUENCE, signed, _RS256, der.element(der.BIT_STRING, b"\0", signature))


def _name(url: str) -> bytes:
    """A name of one attribute. Like Azure's, it may exceed the limit of RFC 5280 for a common name."""
    attribute = der.element(der.SEQUENCE, _COMMON_NAME, der.element(_UTF8, url.encode()))
    return der.element(der.SEQUENCE, der.element(der.SET, attribute))


def _time(when: datetime) -> bytes:
    if when.year < FIRST_GENERALIZED:
        return der.element(_UTC_TIME, when.strftime("%y%m%d%H%M%SZ").encode())
    return der.element(_GENERALIZED_TIME, when.strftime("%Y%m%d%H%M%SZ").encode())


def _extension(oid: str, value: bytes) -> bytes:
    return der.element(der.SEQUENCE, der.oid(oid), der.element(der.OCTET_STRING, value))


def _spki(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
