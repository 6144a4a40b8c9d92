"""Wrap a key to an environment's RSA key.

    ciphertext = RSAES-OAEP(recipient, AES-256 key) || AES key wrap with padding of the material

The hash of OAEP and of its mask is the algorithm's. Material is PKCS#8 DER, or the bytes of an oct key.

Spec: PKCS #11 v3.0, "CKM_RSA_AES_KEY_WRAP"; RFC 8017, "RSAES-OAEP"; RFC 5649.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kluis.services.keyvault.faults import BadParameter

DEFAULT: Final = "CKM_RSA_AES_KEY_WRAP"
_SHA1: Final = hashes.SHA1()  # noqa: S303  # what the mechanism names; OAEP does not need it to resist collisions
ALGORITHMS: Final[Mapping[str, hashes.HashAlgorithm]] = {
    DEFAULT: _SHA1,
    "RSA_AES_KEY_WRAP_256": hashes.SHA256(),
    "RSA_AES_KEY_WRAP_384": hashes.SHA384(),
}
_PADDINGS: Final = {
    name: padding.OAEP(padding.MGF1(digest), digest, None) for name, digest in ALGORITHMS.items()
}


def choose_algorithm(algorithm: str | None) -> str:
    """The algorithm that a client requested, or the default.

    Raises:
        BadParameter: another.
    """
    if algorithm is None:
        return DEFAULT
    if algorithm not in ALGORITHMS:
        raise BadParameter(f"enc: want one of {', '.join(ALGORITHMS)}, got {algorithm[:64]!a}")
    return algorithm


def wrap(secret: bytes, to: rsa.RSAPublicKey, algorithm: str) -> bytes:
    """Wrap material.

    Args:
        secret: at most some KiB.
        to: the environment's key.
        algorithm: of :data:`ALGORITHMS`.
    """
    key = os.urandom(32)
    return to.encrypt(key, _PADDINGS[algorithm]) + keywrap.aes_key_wrap_with_padding(key, secret)
