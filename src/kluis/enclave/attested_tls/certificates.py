"""What an authority outside gave for a key that was made inside: a chain, and of that key."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from kluis.errors import FormatError, UsageError

MOST: Final = 64 * 1024


def chain_of(chain: bytes, key: CertificatePublicKeyTypes, whose: str) -> list[x509.Certificate]:
    """The certificates of a chain that somebody not trusted gave.

    Args:
        chain: PEM, this key's certificate first, its issuers after it.
        key: that it must be for.
        whose: the key is, for the message.

    Raises:
        FormatError: it is no chain of certificates.
        UsageError: its first certificate is for another key.
    """
    if len(chain) > MOST:
        raise FormatError(f"certificate chain: want at most {MOST} bytes, got {len(chain)}")
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        same = certificates[0].public_key() == key
    except (ValueError, UnsupportedAlgorithm):
        raise FormatError("certificate chain: want PEM certificates, this key's first") from None
    if not same:
        raise UsageError(f"certificate chain: want one for this {whose}'s key, got one for another")
    return certificates
