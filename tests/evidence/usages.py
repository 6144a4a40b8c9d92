"""The key usages that a certificate may state, by the names that ``cryptography`` has for them."""

from __future__ import annotations

from cryptography.x509 import KeyUsage

__all__ = ["usage"]

_EVERY = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def usage(*names: str) -> KeyUsage:
    """A key usage of these, and no others."""
    return KeyUsage(**{name: name in names for name in _EVERY})
