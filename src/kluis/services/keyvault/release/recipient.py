"""Read the recipient of a key from the claims of an authority's checked token.

Spec: Azure Key Vault, "Secure Key Release", "Environment assertion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import FormatError
from kluis.frozen import frozen
from kluis.services.keyvault.octets import decode_base64

MAX_RUNTIME_KEYS: Final = 64
RSA_BITS: Final = (2048, 8192)


@frozen
class Recipient:
    """The environment's key.

    Attributes:
        kid: its name in the claims.
        key: RSA, public.
    """

    kid: str
    key: rsa.RSAPublicKey


def recipient(claims: Mapping[str, Any]) -> Recipient:
    """The environment's key: the first RSA key of ``x-ms-runtime.keys`` that is for encryption.

    Raises:
        FormatError: there is none, or it cannot encrypt.
    """
    runtime = claims.get("x-ms-runtime")
    keys = runtime.get("keys") if isinstance(runtime, dict) else None
    if not isinstance(keys, list):
        raise FormatError("x-ms-runtime.keys: want a list, got none")
    for each in keys[:MAX_RUNTIME_KEYS]:
        if isinstance(each, dict) and each.get("kty") in ("RSA", "RSA-HSM") and _for_encryption(each):
            kid = each.get("kid")
            if not isinstance(kid, str) or not 1 <= len(kid) <= 256:
                raise FormatError("x-ms-runtime.keys: want a kid of the key for encryption, got none")
            return Recipient(kid, _rsa(each))
    raise FormatError("x-ms-runtime.keys: want an RSA key for use enc, or with key_ops encrypt, got none")


def _for_encryption(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops")
    return "enc" in (jwk.get("use"), jwk.get("key_use")) or (
        isinstance(operations, list) and "encrypt" in operations
    )


def _rsa(jwk: Mapping[str, Any]) -> rsa.RSAPublicKey:
    what = "x-ms-runtime.keys"
    try:
        if "n" in jwk:
            n, e = (
                int.from_bytes(decode_base64(jwk.get(each), f"{what}.{each}", most=1024), "big")
                for each in "ne"
            )
            if not 3 <= e < 1 << 32:
                raise FormatError(f"{what}.e: want 3 to 32 bits, got another")
            key: object = rsa.RSAPublicNumbers(e, n).public_key()
        else:
            chain = jwk.get("x5c")
            first = chain[0] if isinstance(chain, list) and chain else None
            key = x509.load_der_x509_certificate(decode_base64(first, f"{what}.x5c")).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise FormatError(f"{what}: want an RSA key, got another") from None
    if not isinstance(key, rsa.RSAPublicKey) or not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
        raise FormatError(f"{what}: want an RSA key of {RSA_BITS[0]} to {RSA_BITS[1]} bits, got another")
    if key.public_numbers().n % 2 == 0:  # of two primes none is 2, and nothing can be encrypted to it
        raise FormatError(f"{what}.n: want an odd number, got an even one")
    return key
