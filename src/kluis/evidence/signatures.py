"""Signature checks: ECDSA on P-256 with SHA-256, the one algorithm of Intel's PKI.

The algorithm is fixed here and never taken from what is checked. Spec: FIPS 186-5.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from kluis.errors import AuthenticityError
from kluis.formats.x509 import Certificate, Crl

_ECDSA: Final = ec.ECDSA(SHA256())


def check(document: Certificate | Crl, key: ec.EllipticCurvePublicKey, what: str, *, code: str) -> None:
    """Check that ``key`` signed a certificate or CRL.

    Raises:
        AuthenticityError: it did not.
    """
    _verify(key, document.signature, document.signed, what, code)


def check_raw(
    signature: bytes, signed: bytes, key: ec.EllipticCurvePublicKey, what: str, *, code: str
) -> None:
    """Check that ``key`` made ``signature`` (64 bytes, r and s big-endian) over ``signed``.

    Raises:
        AuthenticityError: it did not.
    """
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    _verify(key, encode_dss_signature(r, s), signed, what, code)


def _verify(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes, what: str, code: str) -> None:
    try:
        key.verify(signature, signed, _ECDSA)
    except InvalidSignature:
        raise AuthenticityError(f"{what}: is not signed by the key it should be", code=code) from None
