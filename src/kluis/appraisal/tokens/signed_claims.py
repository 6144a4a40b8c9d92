"""Check an authority's signed token with keys that are already known.

Spec: RFC 7515, RFC 7519, RFC 8725; Azure Key Vault, "Secure Key Release", "Environment assertion".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.errors import AuthenticityError, FormatError, FreshnessError
from kluis.formats.encoding import b64
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.frozen import frozen

MAX_TOKEN: Final = 128 * 1024
MAX_HEADER: Final = 32 * 1024
MAX_CERTIFICATE: Final = 64 * 1024
SKEW_SECONDS: Final = 60
MOST_SHOWN: Final = 128
_URL: Final = re.compile(r"(https)://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?(/[!-~]*)?")


@frozen
class Assertion:
    """The claims of an authority, and its identity.

    Attributes:
        issuer: the authority's URL, in the form of ``origin``.
        claims: all of them.
    """

    issuer: str
    claims: Mapping[str, Any]


class Keys(Protocol):
    """The keys of the trusted authorities."""

    def key(self, issuer: str, kid: str, now: datetime) -> TrustedKey:
        """Return the key of that name.

        Raises:
            AuthenticityError: no such authority, or it has no such key.
        """
        ...


def check(token: str, keys: Keys, now: datetime) -> Assertion:
    """Check a token.

    1. It is three parts of base64url, at most 128 KiB, whose first two are JSON objects.
    2. The header names an algorithm and a key, and no unknown critical parameter.
    3. ``iss`` is a trusted authority, and the key belongs to it. The token's ``jku``, ``jwk`` or ``x5c``
       provide no key, and may only agree.
    4. That key signed the first two parts, by an algorithm of its kind.
    5. ``exp`` has not passed; ``nbf`` has, within a minute.

    Raises:
        FormatError: step 1 or 2.
        AuthenticityError: step 3 or 4.
        FreshnessError: step 5.
        UnavailableError: the authority's keys are unavailable.
    """
    header, claims = peek(token)  # 1
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(kid, str) or "crit" in header or "b64" in header:  # 2
        raise FormatError("token header: want alg and kid, without crit, got another")
    issuer = origin(claims.get("iss"))
    key = keys.key(issuer, kid, now)  # 3
    _agrees(header, issuer, key.certificate)
    signed, _, signature = token.rpartition(".")
    key.check(algorithm, signed.encode(), b64.decode_url(signature, "token signature"))  # 4
    _in_time(claims, now.timestamp())  # 5
    return Assertion(issuer, claims)


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, unchecked except for step 1.

    Raises:
        FormatError: not a token.
    """
    header, claims, _ = _parts(token)
    return _object(header, "header"), _object(claims, "claims")


def _parts(token: str) -> list[str]:
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(parts) != 3 or len(parts[0]) > MAX_HEADER:
        raise FormatError(f"token: want three parts, at most {MAX_TOKEN} bytes, got another")
    return parts


def origin(url: object) -> str:
    """Normalize an authority's URL for comparison: the host in lower case, without one trailing slash.

    Raises:
        FormatError: not an https URL, or one with a query.
    """
    match = _URL.fullmatch(url) if isinstance(url, str) and len(url) <= 2048 else None
    if match is None or "?" in match[0] or "#" in match[0]:
        got = "none" if url is None else ascii(_cut(str(url)))
        raise FormatError(f"authority: want an https URL, got {got}")
    port = "" if match[3] in (None, ":443") else match[3]
    return f"https://{match[2].lower()}{port}{(match[4] or '').removesuffix('/')}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _object(part: str, what: str) -> dict[str, Any]:
    data = b64.decode_url(part, f"token {what}")
    try:
        value = msgspec.json.decode(data)
    except UNREADABLE:
        raise FormatError(f"token {what}: want JSON, got another") from None
    if not isinstance(value, dict):
        raise FormatError(f"token {what}: want an object, got another")
    return value


def _agrees(header: Mapping[str, Any], issuer: str, certificate: bytes | None) -> None:
    """Refuse a header that names another's keys: they are not used here, but other readers might use them."""
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
        or b64.decode_either(chain[0], "token x5c", most=MAX_CERTIFICATE) != certificate
    ):
        raise AuthenticityError("token x5c: want the certificate of the authority's key, got another")
    if "jwk" in header:
        raise AuthenticityError("token jwk: want none, got one")


def _in_time(claims: Mapping[str, Any], at: float) -> None:
    end, begin = (_time(claims, name, otherwise) for name, otherwise in (("exp", None), ("nbf", 0)))
    if at >= end:
        raise FreshnessError(
            f"token exp: want one after {int(at)}, got {end}",
            hint="ask the authority for a new one",
            code="token_expired",
        )
    if at < begin - SKEW_SECONDS:
        raise FreshnessError(f"token nbf: want one before {int(at)}, got {begin}", code="token_not_yet_valid")


def _time(claims: Mapping[str, Any], name: str, otherwise: int | None) -> int:
    value = claims.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormatError(f"token {name}: want a time in whole seconds, got another")
    return value
