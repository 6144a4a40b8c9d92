"""The few primitives that every enclave needs to start, taken from ``cryptography`` at their source.

The public modules are thin: they load every other algorithm of the library to ask whether this one is
there, which is a tenth of an enclave's start (174 pages of its memory). These are the same classes.
"""

from __future__ import annotations

from cryptography.hazmat.bindings._rust import openssl

AESGCM = openssl.aead.AESGCM
X25519PrivateKey = openssl.x25519.X25519PrivateKey
X25519PublicKey = openssl.x25519.X25519PublicKey
generate_x25519 = openssl.x25519.generate_key
read_x25519 = openssl.x25519.from_public_bytes
