"""An issuer of bearer tokens, with a key of the test's own."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import RSAKey

from kluis.services.web import Issuer
from tests.keys import rsa_key

URL = "https://issuer.example/tenant"
AUDIENCE = "https://service.example"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@functools.cache
def signing_key(number: int) -> RSAKey:
    """A key of id ``one``; those of different numbers differ."""
    pem = rsa_key(number).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return RSAKey.import_key(pem, {"kid": "one"})


class FixedClock:
    """A clock that the test sets."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        """The time."""
        return self.at

    def pace(self) -> float:
        """The same time: nobody has set this clock, unless a test does."""
        return self.at.timestamp()


class TokenMaker:
    """Makes tokens, and publishes the keys that verify them; two with one ``key`` number sign with the
    same.
    """

    def __init__(self, url: str = URL, audience: str = AUDIENCE, key: int = 0) -> None:
        self.url, self.audience = url, audience
        self.key = signing_key(key)

    def issuer(self) -> Issuer:
        """What a service is configured with."""
        return Issuer(self.url, (self.audience,), json.dumps({"keys": [self.key.as_dict(private=False)]}))

    def token(self, *roles: str, now: datetime = NOW, **claims: Any) -> str:
        """A token valid for an hour; a claim with value None is left out."""
        at = int(now.timestamp())
        said = {
            "iss": self.url, "aud": self.audience, "sub": "somebody", "roles": list(roles), "nbf": at,
            "exp": at + 3600, **claims,
        }  # fmt: skip
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": "one"}, said, self.key)

    def header(self, *roles: str, **claims: Any) -> dict[str, str]:
        """The request header that carries one."""
        return {"Authorization": f"Bearer {self.token(*roles, **claims)}"}
