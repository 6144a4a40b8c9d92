"""Parse a client's assertion, three parts of base64url, before it is trusted; and check its times.

Spec: RFC 7521; RFC 7523, "JWT Format and Processing Requirements"; RFC 7515. Padding is accepted: Azure's
clients write it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.errors import AuthenticityError, FormatError
from kluis.formats.encoding import b64, jcs
from kluis.frozen import frozen
from kluis.serve.issuer.refusals import MOST_SHOWN, refusal, show
from kluis.services.web import Refusal

MOST_DEPTH: Final = 8
MOST_DIGITS: Final = 17
LEEWAY_SECONDS: Final = 60


@frozen
class Assertion:
    """A parsed assertion, not yet checked.

    Attributes:
        header: all of it.
        claims: all of them.
        signed: the bytes that the signature covers.
        signature: the signature.
        digest: SHA-256 of the whole text.
    """

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes
    digest: bytes

    @property
    def algorithm(self) -> object:
        """The algorithm in its header."""
        return self.header.get("alg")


def read(text: str) -> Assertion:
    """Parse an assertion.

    Raises:
        Refusal: not a compact JWS of two JSON objects, or its header has a critical parameter.
    """
    parts = text.split(".")
    if len(parts) != 3:
        raise refusal("invalid_client", f"client_assertion: want a JWT of three parts, got {len(parts)}")
    try:
        head, body, signature = (
            b64.decode_either(part, "client_assertion", most=len(text)) for part in parts
        )
        header, claims = _object(head, "client assertion header"), _object(body, "client assertion claims")
    except FormatError as error:
        raise refusal("invalid_client", error.message) from None
    if "crit" in header or "b64" in header:
        raise refusal("invalid_client", "client assertion header: want none of crit and b64, got one")
    signed, digest = text.rpartition(".")[0].encode(), hashlib.sha256(text.encode()).digest()
    return Assertion(header, claims, signed, signature, digest)


def check_signature(assertion: Assertion, key: TrustedKey, number: int | None = None) -> None:
    """Check that a key signed an assertion, whose algorithm was checked before.

    Args:
        assertion: as parsed.
        key: trusted.
        number: Entra's, for the refusal.

    Raises:
        Refusal: it did not sign it.
    """
    try:
        key.check(str(assertion.algorithm), assertion.signed, assertion.signature)
    except AuthenticityError:
        why = f"client assertion: want it signed by the key {key.kid[:MOST_SHOWN]}, got another signature"
        raise refusal("invalid_client", why, number=number) from None


def check_times(assertion: Assertion, now: datetime, most: int | None = None) -> float:
    """Check ``exp``, which is required, and ``nbf``; return ``exp``.

    Args:
        assertion: to check.
        now: aware.
        most: seconds that may remain until ``exp``.

    Raises:
        Refusal: expired, not yet valid, valid for too long, or not in numbers.
    """
    at = now.timestamp()
    end, begin = seconds(assertion, "exp"), seconds(assertion, "nbf", absent=0)
    if at >= end + LEEWAY_SECONDS:
        raise _untimely(f"exp: want after {at:.0f}, got {end:.0f}: has expired")
    if at < begin - LEEWAY_SECONDS:
        raise _untimely(f"nbf: want {at:.0f} or before, got {begin:.0f}: is not valid yet")
    if most is not None and end > at + most + LEEWAY_SECONDS:
        raise _untimely(f"exp: want at most {most} seconds from {at:.0f}, got {end:.0f}")
    return end


def seconds(assertion: Assertion, claim: str, absent: float | None = None) -> float:
    """A time in its claims; MSAL for Python writes fractions.

    Raises:
        Refusal: not a number, or missing without a default in ``absent``.
    """
    value = assertion.claims.get(claim, absent)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _untimely(f"{claim}: want seconds since 1970, got {show(value)}")
    return value


def _untimely(why: str) -> Refusal:
    return refusal("invalid_client", f"client assertion {why}", number=700024)


def _object(data: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object with unique names.

    Raises:
        FormatError: anything else.
    """
    jcs.check_nesting(data, what, MOST_DEPTH)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise FormatError(f"{what}: want each name once, got one twice")
        return members

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise FormatError(f"{what}: want numbers of at most {MOST_DIGITS} digits, got more")
        return int(digits)

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_int=whole)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FormatError(f"{what}: want a JSON object, got another")
    return value
