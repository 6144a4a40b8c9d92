"""Check certificate chains from an outside authority for a key that was generated inside."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from kluis.errors import FormatError, UsageError

MOST: Final = 64 * 1024


def chain_of(chain: bytes, key: CertificatePublicKeyTypes, whose: str) -> list[x509.Certificate]:
    """Parse the certificates of an untrusted chain.

    Args:
        chain: PEM, this key's certificate first, followed by its issuers.
        key: that the chain must be for.
        whose: description of the key, for messages.

    Raises:
        FormatError: not a chain of certificates.
        UsageError: its first certificate is for another key.
    """
    if len(chain) > MOST:
        raise FormatError(f"certificate chain: want at most {MOST} bytes, got {len(chain)}")
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        same = certificates[0].public_key() == key
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise FormatError("certificate chain: want PEM certificates, this key's first") from None
    if not same:
        raise UsageError(f"certificate chain: want one for this {whose}'s key, got one for another")
    return certificates
