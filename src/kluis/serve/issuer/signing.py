"""The issuer's key, and the tokens that it signs.

Spec: RFC 7519; the claims are those of Microsoft Entra's access tokens.
"""

from __future__ import annotations

import enum
import json
import secrets
import uuid
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from kluis import files
from kluis.errors import FormatError
from kluis.serve.issuer.clients import Client
from kluis.services.clock import Clock
from kluis.tee import keyfiles

TENANT: Final = "00000000-0000-4000-8000-6b6c75697300"
TOKEN_SECONDS: Final = 3600
# A service that reads it responds with a claims challenge (Microsoft Entra, "Claims challenges").
CLAIMS_WANTED: Final = "x-kluis-claims-wanted"


class Proof(enum.Enum):
    """A client's method of authentication, as in the claim ``appidacr``."""

    NONE = "0"
    SECRET = "1"  # noqa: S105  # a number, and no secret
    SIGNATURE = "2"


class Signer:
    """Signs tokens.

    Args:
        url: of the issuer, without a trailing slash.
        key: signs.
        clock: returns the time.
    """

    def __init__(self, url: str, key: RSAKey, clock: Clock) -> None:
        self.url = url
        self._key = key
        self._clock = clock

    @property
    def issuer(self) -> str:
        """The ``iss`` of its tokens."""
        return f"{self.url}/{TENANT}/v2.0"

    @property
    def authorization(self) -> str:
        """The authority in a challenge."""
        return f"{self.url}/{TENANT}"

    @property
    def endpoint(self) -> str:
        """The token endpoint, which is the ``aud`` of clients' assertions."""
        return f"{self.authorization}/oauth2/v2.0/token"

    def jwks(self) -> dict[str, Any]:
        """Its public keys."""
        return {"keys": [{**self._key.as_dict(private=False), "use": "sig", "alg": "RS256"}]}

    def token(self, client: Client, audience: str, proof: Proof, *, fresh: bool = False) -> tuple[str, int]:
        """A token for a client, valid for an hour; and its expiry, in seconds since 1970.

        Args:
            client: that gets it.
            audience: the service.
            proof: the client's method of authentication.
            fresh: whether the request had the claims that a service's challenge required.
        """
        at = int(self._clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": audience,
            "sub": client.id,
            "oid": object_id(client.id),
            "appid": client.id,
            "appidacr": proof.value,
            "tid": TENANT,
            "roles": list(client.roles),
            "iat": at,
            "nbf": at,
            "exp": at + TOKEN_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        if client.stale and not fresh:
            claims[CLAIMS_WANTED] = json.dumps(
                {"access_token": {"nbf": {"essential": True, "value": str(at)}}}
            )
        made = jwt.encode({"alg": "RS256", "kid": self._key.kid}, claims, self._key)
        return made, at + TOKEN_SECONDS


def object_id(client: str) -> str:
    """The id of a client's object in its directory: always the same, and a GUID as in Entra."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"kluis:client:{client}"))


def load_or_create(path: Path) -> RSAKey:
    """Load the key from the file, or create it there.

    Raises:
        UnavailableError: the file is another user's, or accessible to others.
        FormatError: it is damaged.
    """
    if not path.exists():
        made = RSAKey.generate_key(2048, {"kid": secrets.token_hex(8)}, private=True)
        files.write(path, json.dumps(made.as_dict(private=True)).encode())
    try:
        key = RSAKey.import_key(json.loads(keyfiles.read(path)))
    except (ValueError, TypeError, RecursionError, JoseError):
        key = None
    if key is None or not key.is_private:
        raise FormatError(f"{path}: want the JSON Web Key of an RSA private key, got another")
    return key
