"""Verify bearer tokens of issuers that the ledger's members registered, only with keys in the ledger.

A token's own statements about its keys are ignored. Spec: RFC 7515; RFC 7519; CCF, "JWT Authentication".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.errors import AuthenticityError, FormatError, FreshnessError
from kluis.formats.encoding import b64
from kluis.formats.encoding.unreadable import UNREADABLE

MOST_TOKEN: Final = 16 << 10
MOST_KEYS: Final = 16
LEEWAY_SECONDS: Final = 60
TENANT: Final = "{tenantid}"
ENTRA: Final = "login.microsoftonline.com"


class SigningKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key of an issuer, as the ledger has it.

    Attributes:
        public_key: DER, base64.
        issuer: as it was registered.
        constraint: what a token's ``iss`` must be, where there is one.
    """

    public_key: str
    issuer: str
    constraint: str | None = None


class _Header(msgspec.Struct):
    alg: str
    kid: str
    crit: Any = None


def check(
    header: str,
    keys_of: Callable[[str], bytes | None],
    now: datetime,
    audiences: frozenset[str] | None = None,
) -> Mapping[str, Any]:
    """Check the value of an ``Authorization`` header, and give the token's claims.

    1. It is ``Bearer`` and one compact JWS, RS256 or ES256, that names its key.
    2. A registered key of that name signed it, and its ``iss`` is what the key's issuer may say.
    3. ``nbf`` and ``exp`` hold at ``now``; ``exp`` must be there.
    4. ``aud`` is one of ``audiences``, where any are wanted.

    Args:
        header: what the client sent.
        keys_of: the ledger's keys of a ``kid``, JSON, or None.
        now: the host's time.
        audiences: without a slash at their end; None: any.

    Raises:
        FormatError: it is no bearer token.
        AuthenticityError: nobody's who is registered, or for another service.
        FreshnessError: expired, or not yet valid.
    """
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text or len(text) > MOST_TOKEN:  # 1
        raise FormatError("Authorization: want Bearer and a token", code="bearer")
    head, claims, signed, signature = _split(text.strip())
    _check_signer(head, claims, keys_of(head.kid), signed, signature)  # 2
    _check_times(claims, now)  # 3
    if audiences is not None:  # 4
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(one, str) and one.removesuffix("/") in audiences for one in named):
            raise AuthenticityError(f"bearer token aud: want {' or '.join(sorted(audiences))}", code="bearer")
    return claims


def _split(text: str) -> tuple[_Header, Mapping[str, Any], bytes, bytes]:
    parts = text.split(".")
    if len(parts) != 3 or not text.isascii():
        raise FormatError("bearer token: want a compact JWS", code="bearer")
    try:
        raw = [b64.decode_url(part, "bearer token") for part in parts]
        head = msgspec.json.decode(raw[0], type=_Header)
        claims = msgspec.json.decode(raw[1], type=dict[str, Any])
    except (*UNREADABLE, FormatError, RecursionError):
        raise FormatError("bearer token: want a compact JWS with a key's name", code="bearer") from None
    if head.crit is not None:
        raise FormatError("bearer token: want no critical extension", code="bearer")
    return head, claims, f"{parts[0]}.{parts[1]}".encode(), raw[2]


def _check_signer(
    head: _Header, claims: Mapping[str, Any], known: bytes | None, signed: bytes, signature: bytes
) -> None:
    if known is None:
        raise AuthenticityError(
            f"bearer token: JWT signing key not found for kid {head.kid[:64]!a}", code="bearer"
        )
    try:
        keys = msgspec.json.decode(known, type=list[SigningKey])[:MOST_KEYS]
    except UNREADABLE:
        raise AuthenticityError("bearer token: its key cannot be read", code="bearer") from None
    problem = "is not signed by a registered key"
    for key in keys:
        if not _verify(key.public_key, head.alg, signed, signature):
            continue
        if _may_say(key, claims):
            return
        problem = "iss: is not what its key's issuer may say"
    raise AuthenticityError(f"bearer token: {problem}", code="bearer")


def _verify(public: str, algorithm: str, signed: bytes, signature: bytes) -> bool:
    key = _load(public)
    try:
        if algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            return True
        if algorithm == "ES256" and _on_p256(key) and len(signature) == 64:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
            return True
    except InvalidSignature:
        return False
    return False


def _on_p256(key: Any) -> bool:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


@functools.lru_cache(64)
def _load(public: str) -> Any:
    try:
        return load_der_public_key(b64.decode(public, "key"))
    except (ValueError, UnsupportedAlgorithm, FormatError):
        return None


def _may_say(key: SigningKey, claims: Mapping[str, Any]) -> bool:
    """Whether an issuer may use a token's ``iss`` and ``tid``, by CCF's rules.

    In CCF a key without a constraint accepts any ``iss``; here it must be the registered issuer.
    """
    issuer, tenant = claims.get("iss"), claims.get("tid")
    if not isinstance(issuer, str):
        return False
    if key.constraint is None:
        return issuer in (key.issuer, f"https://{key.issuer}")
    try:
        host = urlsplit(key.constraint).hostname
        first = urlsplit(issuer).path.strip("/").partition("/")[0]
    except ValueError:
        return False
    if host != ENTRA:
        return tenant is None and issuer == key.constraint
    if not isinstance(tenant, str):
        return False
    return issuer == key.constraint.replace(TENANT, tenant) and first == tenant


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    at, end, begin = now.timestamp(), claims.get("exp"), claims.get("nbf", 0)
    if type(end) is not int or type(begin) is not int:
        raise AuthenticityError("bearer token exp: want a time in whole seconds, got none", code="bearer")
    if at >= end + LEEWAY_SECONDS:
        raise FreshnessError("bearer token: has expired", code="bearer")
    if at < begin - LEEWAY_SECONDS:
        raise FreshnessError("bearer token: is not valid yet", code="bearer")
