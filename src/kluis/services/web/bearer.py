"""Check bearer tokens of one configured issuer.

The issuer's keys are configured, and never fetched from a token's own statements: ``jku``, ``jwk`` and
``x5c`` of a token's header are ignored. Spec: RFC 7519; RFC 8725, "Best Current Practices".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from kluis.errors import AuthenticityError, FormatError, FreshnessError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.frozen import frozen

ALGORITHMS: Final = ["RS256", "ES256"]
MOST_TOKEN: Final = 16 << 10
LEEWAY_SECONDS: Final = 60


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The issuer of callers' tokens.

    Attributes:
        url: the tokens' ``iss``.
        audiences: a token must name one of them.
        keys: the issuer's JWKS document, JSON.
    """

    url: str
    audiences: tuple[str, ...]
    keys: str


class WrongAudience(AuthenticityError):
    """A token with a valid signature, but from another issuer or for another service.

    Args:
        claim: ``iss`` or ``aud``.
        wanted: any of them.
        got: the token's value; of any type, because the sender chooses it.
    """

    def __init__(self, claim: str, wanted: Iterable[str], got: object) -> None:
        self.claim, self.wanted = claim, tuple(wanted)
        self.got = "none" if got is None else str(got)[:200]
        super().__init__(
            f"bearer token {claim}: want {' or '.join(self.wanted)}, got {self.got}", code="bearer"
        )


@frozen
class Caller:
    """A caller with a valid token.

    Attributes:
        subject: of the token.
        roles: of the token.
        claims: all of the token's.
        audiences: those of the token that are this service's, without a trailing slash.
    """

    subject: str
    roles: frozenset[str]
    claims: Mapping[str, Any] = dataclasses.field(repr=False)
    audiences: frozenset[str] = frozenset()


class Bearer:
    """Checks tokens of one issuer.

    Attributes:
        issuer: as given.

    Raises:
        FormatError: the issuer's keys are not a JWKS, or are secret.
    """

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self._audiences = dict.fromkeys(map(_bare, issuer.audiences))
        try:
            document = msgspec.json.decode(issuer.keys)
            keys = document["keys"]
            if not keys or any(key.get("kty") == "oct" or "d" in key for key in keys):
                raise FormatError("issuer.keys: want public keys, got none or others")
            self._keys = KeySet.import_key_set(document)
        except (*UNREADABLE, JoseError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise FormatError(f"issuer.keys: want a JWKS document: {type(error).__name__}") from None

    def check(self, header: str, now: datetime) -> Caller:
        """Check the value of an ``Authorization`` header.

        1. It is ``Bearer`` and one compact JWS, of an algorithm with a public key.
        2. The issuer's key signed it.
        3. ``iss`` is the issuer, ``aud`` names this service.
        4. ``nbf`` and ``exp`` are valid at ``now``; ``exp`` is required.

        Raises:
            FormatError: not a bearer token.
            AuthenticityError: no known key signed it.
            WrongAudience: from another issuer, or for another service.
            FreshnessError: expired, or not yet valid.
        """
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer" or not text or len(text) > MOST_TOKEN:  # 1
            raise FormatError("Authorization: want Bearer and a token", code="bearer")
        try:
            claims = jwt.decode(text.strip(), self._keys, algorithms=ALGORITHMS).claims  # 2
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise AuthenticityError(
                f"bearer token: not signed by {self.issuer.url}: {type(error).__name__}", code="bearer"
            ) from None
        if claims.get("iss") != self.issuer.url:  # 3
            raise WrongAudience("iss", [self.issuer.url], claims.get("iss"))
        audience = claims.get("aud")
        named = {_bare(one) for one in (audience if isinstance(audience, list) else [audience])}
        ours = named & self._audiences.keys()
        if not ours:
            raise WrongAudience("aud", self._audiences, audience)
        _in_time(claims, now)  # 4
        roles = claims.get("roles", [])
        return Caller(
            str(claims.get("sub", ""))[:256],
            frozenset(role for role in roles if isinstance(role, str))
            if isinstance(roles, list)
            else frozenset(),
            claims,
            frozenset(ours),
        )


def _bare(audience: object) -> str:
    """An audience without the trailing slash that Azure's own resource names have, and others omit."""
    return audience.removesuffix("/") if isinstance(audience, str) else ""


def _in_time(claims: Mapping[str, Any], now: datetime) -> None:
    at, end, begin = now.timestamp(), claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(end, int) or not isinstance(begin, int):
        raise AuthenticityError("bearer token exp: want a time in whole seconds, got none", code="bearer")
    if at >= end + LEEWAY_SECONDS:
        raise FreshnessError("bearer token: has expired", code="bearer")
    if at < begin - LEEWAY_SECONDS:
        raise FreshnessError("bearer token: is not valid yet", code="bearer")
