"""Keys that sign enclaves: RSA-3072 with exponent 3, which is what SGX takes.

A launch uses these sizes without ``cryptography``, so what makes and reads keys imports it late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kluis.errors import UsageError
from kluis.hashes import sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

KEY_BYTES: Final = 384
EXPONENT: Final = 3
_KEY_HINT: Final = "openssl genrsa -3 -out author.pem 3072, or let kluis build make it"


def generate() -> rsa.RSAPrivateKey:
    """Make an author's key: RSA-3072 with exponent 3, which is what SGX takes."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=EXPONENT, key_size=KEY_BYTES * 8)


def load(pem: bytes, what: str = "key") -> rsa.RSAPrivateKey:
    """Read an author's private key from PEM.

    Raises:
        UsageError: not PEM, encrypted, or not RSA-3072 with exponent 3. The message never contains the key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{what}: want an unencrypted PEM private key, got something else", hint=_KEY_HINT
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UsageError(f"{what}: want an RSA key, got another kind", hint=_KEY_HINT)
    check_public(key.public_key(), what)
    return key


def load_public(pem: bytes, what: str = "public key") -> rsa.RSAPublicKey:
    """Read an author's public key from PEM (SubjectPublicKeyInfo).

    Raises:
        UsageError: not PEM, or not RSA-3072 with exponent 3.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{what}: want a PEM public key, got something else") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise UsageError(f"{what}: want an RSA key, got another kind", hint=_KEY_HINT)
    check_public(key, what)
    return key


def signer_of(key: rsa.RSAPublicKey) -> bytes:
    """MRSIGNER of what this key signs: SHA-256 of its modulus, little-endian; 32 bytes."""
    return sha256(key.public_numbers().n.to_bytes(KEY_BYTES, "little"))


def check_public(key: rsa.RSAPublicKey, what: str = "key") -> None:
    """Refuse a key that SGX does not support.

    Raises:
        UsageError: not 3072 bits, or another exponent than 3.
    """
    if key.key_size != KEY_BYTES * 8 or key.public_numbers().e != EXPONENT:
        raise UsageError(
            f"{what}: want RSA-3072 with exponent 3, got RSA-{key.key_size} "
            f"with exponent {key.public_numbers().e}",
            hint=_KEY_HINT,
        )
