"""Check signatures. The verifier chooses the scheme; it is never taken from the data to check.

Spec: FIPS 186-5 (ECDSA), RFC 8017 (RSA).
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from kluis.errors import AuthenticityError
from kluis.evidence.context import Context
from kluis.evidence.engine import Key
from kluis.formats.x509 import Certificate, Crl, Scheme

_HALF: Final = {Scheme.ES256: 32, Scheme.ES384: 48, Scheme.ES512: 66}


def check(
    document: Certificate | Crl,
    issuer: bytes,
    what: str,
    *,
    schemes: tuple[Scheme, ...],
    context: Context,
    code: str,
) -> None:
    """Check that a key signed a certificate or CRL.

    Args:
        document: the certificate or CRL, whose scheme must be one of ``schemes``.
        issuer: DER of the SubjectPublicKeyInfo.
        what: for messages.
        schemes: that this vendor signs with.
        context: of the verifier.
        code: of the error.

    Raises:
        AuthenticityError: the key did not sign it.
    """
    if document.scheme not in schemes:
        raise AuthenticityError(
            f"{what}: want {' or '.join(scheme.value for scheme in schemes)}, got {document.scheme.value}",
            code="cert_profile",
        )
    key = context.key(issuer, document.scheme, what, code=code)
    if not key.verify(document.signature, document.signed):
        raise _refusal(what, code)


def check_raw(
    signature: bytes, signed: bytes, spki: bytes, scheme: Scheme, what: str, *, context: Context, code: str
) -> None:
    """Check that a key made a signature over ``signed``.

    Args:
        signature: r and s, big-endian, each as long as the scheme's curve; or the raw RSA signature.
        signed: the bytes.
        spki: DER of the SubjectPublicKeyInfo.
        scheme: fixed by the format.
        what: for messages.
        context: of the verifier.
        code: of the error.

    Raises:
        AuthenticityError: the key did not make it, or the signature is out of range.
    """
    raw = _as_keys_take_it(signature, scheme, what, code)
    if not context.key(spki, scheme, what, code=code).verify(raw, signed):
        raise _refusal(what, code)


def check_raw_by(key: Key, signature: bytes, signed: bytes, scheme: Scheme, what: str, *, code: str) -> None:
    """Check that a loaded key made a signature over ``signed``; otherwise like :func:`check_raw`.

    Raises:
        AuthenticityError: the key did not make it, or the signature is out of range.
    """
    if not key.verify(_as_keys_take_it(signature, scheme, what, code), signed):
        raise _refusal(what, code)


def _as_keys_take_it(signature: bytes, scheme: Scheme, what: str, code: str) -> bytes:
    half = _HALF.get(scheme)
    if half is None:
        return signature
    if len(signature) != 2 * half:
        raise AuthenticityError(
            f"{what}: want a signature of {2 * half} bytes, got {len(signature)}", code=code
        )
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    return encode_dss_signature(r, s)


def _refusal(what: str, code: str) -> AuthenticityError:
    return AuthenticityError(f"{what}: is not signed by the key it should be", code=code)
