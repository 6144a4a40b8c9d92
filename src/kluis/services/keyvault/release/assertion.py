"""Environment assertions: the token of an authority about where a key is to go, checked.

Spec: RFC 7515, RFC 7519, RFC 8725; Azure Key Vault, "Secure Key Release", "Environment assertion".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import AuthenticityError, FormatError, FreshnessError
from kluis.formats import b64
from kluis.services.keyvault.octets import octets
from kluis.services.keyvault.release.keyring import Keyring
from kluis.services.keyvault.release.policy import origin

__all__ = ["Assertion", "Recipient", "check", "recipient"]

MAX_TOKEN: Final = 128 * 1024
MAX_HEADER: Final = 32 * 1024
SKEW_SECONDS: Final = 60
MAX_RUNTIME_KEYS: Final = 64
RSA_BITS: Final = (2048, 8192)


@dataclasses.dataclass(frozen=True, slots=True)
class Assertion:
    """What an authority said, and whoever it is.

    Attributes:
        issuer: the authority's URL, as ``origin`` writes it.
        claims: all of them.
    """

    issuer: str
    claims: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Recipient:
    """The environment's key.

    Attributes:
        kid: its name in the claims.
        key: RSA, public.
    """

    kid: str
    key: rsa.RSAPublicKey


def check(token: str, keyring: Keyring, now: datetime) -> Assertion:
    """Check a token.

    1. It is three parts of base64url, at most 128 KiB, whose first two are JSON objects.
    2. The header names an algorithm and a key, and nothing that must be understood and is not.
    3. ``iss`` is an authority, and the key is one of its own: not of the token's ``jku``, ``jwk`` or ``x5c``,
       which may only agree.
    4. That key signed the first two parts, by an algorithm of its kind.
    5. ``exp`` is to come and ``nbf`` has passed.

    Raises:
        FormatError: step 1 or 2.
        AuthenticityError: step 3 or 4.
        FreshnessError: step 5.
        UnavailableError: the authority's keys cannot be had.
    """
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(parts) != 3 or len(parts[0]) > MAX_HEADER:
        raise FormatError(f"token: want three parts, at most {MAX_TOKEN} bytes, got another")
    header, claims = (
        _object(part, what) for part, what in zip(parts, ("header", "claims"), strict=False)
    )  # 1
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(kid, str) or "crit" in header or "b64" in header:  # 2
        raise FormatError("token header: want alg and kid, without crit, got another")
    issuer = origin(claims.get("iss"))
    key = keyring.key(issuer, kid, now)  # 3
    _agrees(header, issuer, key.certificate)
    signed = token[: len(parts[0]) + 1 + len(parts[1])].encode()
    key.check(algorithm, signed, b64.decode_url(parts[2], "token signature"))  # 4
    _in_time(claims, now.timestamp())  # 5
    return Assertion(issuer, claims)


def recipient(claims: Mapping[str, Any]) -> Recipient:
    """The environment's key: the first RSA key of ``x-ms-runtime.keys`` that is for encrypting.

    Raises:
        FormatError: there is none, or it is none to encrypt to.
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


def _object(part: str, what: str) -> dict[str, Any]:
    data = b64.decode_url(part, f"token {what}")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise FormatError(f"token {what}: want JSON, got another") from None
    if not isinstance(value, dict):
        raise FormatError(f"token {what}: want an object, got another")
    return value


def _agrees(header: Mapping[str, Any], issuer: str, certificate: bytes | None) -> None:
    """Refuse a header that names another's keys: nothing here goes by them, others might."""
    jku = header.get("jku")
    if jku is not None:
        where = origin(jku)
        if where.split("/")[:3] != issuer.split("/")[:3]:
            raise AuthenticityError(f"token jku: want one of {issuer}, got {where[:200]}")
    chain = header.get("x5c")
    if chain is not None and (
        certificate is None
        or not isinstance(chain, list)
        or not chain
        or octets(chain[0], "token x5c") != certificate
    ):
        raise AuthenticityError("token x5c: want the certificate of the authority's key, got another")
    if "jwk" in header:
        raise AuthenticityError("token jwk: want none, got one")


def _in_time(claims: Mapping[str, Any], at: float) -> None:
    end, begin = (_time(claims, name, otherwise) for name, otherwise in (("exp", None), ("nbf", 0)))
    if at >= end:
        raise FreshnessError(f"token exp: want one after {int(at)}, got {end}")
    if at < begin - SKEW_SECONDS:
        raise FreshnessError(f"token nbf: want one before {int(at)}, got {begin}")


def _time(claims: Mapping[str, Any], name: str, otherwise: int | None) -> int:
    value = claims.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormatError(f"token {name}: want a time in whole seconds, got another")
    return value


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
                int.from_bytes(octets(jwk.get(each), f"{what}.{each}", most=1024), "big") for each in "ne"
            )
            if not 3 <= e < 1 << 32:
                raise FormatError(f"{what}.e: want 3 to 32 bits, got another")
            key: object = rsa.RSAPublicNumbers(e, n).public_key()
        else:
            chain = jwk.get("x5c")
            first = chain[0] if isinstance(chain, list) and chain else None
            key = x509.load_der_x509_certificate(octets(first, f"{what}.x5c")).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise FormatError(f"{what}: want an RSA key, got another") from None
    if not isinstance(key, rsa.RSAPublicKey) or not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
        raise FormatError(f"{what}: want an RSA key of {RSA_BITS[0]} to {RSA_BITS[1]} bits, got another")
    return key
