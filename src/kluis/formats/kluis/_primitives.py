"""The few cryptographic primitives that every enclave needs to start, imported from ``cryptography``'s core.

The public modules are thin, but they load every other algorithm of the library to check whether this one is
available. That takes a tenth of an enclave's start (236 pages of its memory). These are the same classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.bindings._rust import openssl

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

AESGCM = openssl.aead.AESGCM


def generate_x25519() -> X25519PrivateKey:
    """Generate a key, like ``X25519PrivateKey.generate``."""
    return openssl.x25519.generate_key()


def read_x25519(data: bytes) -> X25519PublicKey:
    """Read a key of 32 bytes, like ``X25519PublicKey.from_public_bytes``."""
    return openssl.x25519.from_public_bytes(data)
