"""A development issuer of bearer tokens, on loopback, with the endpoints that ``azure-identity`` asks.

For development: whoever can read its clients' secrets is whom they say. A real deployment names its own
issuer instead, and this one does not run. Spec: RFC 6749, "Client Credentials Grant"; OpenID Connect
Discovery 1.0; the paths are Microsoft Entra's.
"""

from __future__ import annotations

import hmac
import json
import secrets
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs

import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kluis.errors import FormatError
from kluis.services.clock import Clock
from kluis.tee.platform import keyfiles

__all__ = ["Client", "DevelopmentIssuer"]

TENANT: Final = "00000000-0000-4000-8000-6b6c75697300"
TOKEN_SECONDS: Final = 3600
MOST_FORM: Final = 16 << 10
# What a service that reads it answers with a claims challenge (Microsoft Entra, "Claims challenges").
CLAIMS_WANTED: Final = "x-kluis-claims-wanted"


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One who may ask for tokens.

    Attributes:
        id: the ``client_id``.
        secret: the ``client_secret``; not shown.
        roles: what its tokens say it may be.
        stale: its tokens are marked as in need of fresh claims, to try how a client answers that.
    """

    id: str
    secret: str
    roles: tuple[str, ...]
    stale: bool = False

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Client(id={self.id!r}, roles={self.roles!r})"


class DevelopmentIssuer:
    """Issues tokens to the clients of one state directory.

    Args:
        url: its own, without a slash at the end.
        key: signs.
        clients: by id.
        clock: tells the time.
    """

    def __init__(self, url: str, key: RSAKey, clients: Mapping[str, Client], clock: Clock) -> None:
        self.url = url
        self.clients = clients
        self._key = key
        self._clock = clock

    @classmethod
    def load_or_create(
        cls,
        folder: Path,
        url: str,
        roles: Mapping[str, tuple[str, ...]],
        clock: Clock,
        stale: frozenset[str] = frozenset(),
    ) -> Self:
        """The issuer whose key and clients are in ``folder``, made there if there are none.

        Args:
            folder: its own; its files are readable by this user alone.
            url: as clients reach it.
            roles: of each client, by its name; a client that is new gets a secret.
            clock: tells the time.
            stale: those of them whose tokens are marked, if they are new.

        Raises:
            UnavailableError: a file is another user's, or open to others.
            FormatError: a file is not what was written.
        """
        path = folder / "signing.jwk"
        if not path.exists():
            made = RSAKey.generate_key(2048, {"kid": secrets.token_hex(8)}, private=True)
            keyfiles.write(path, json.dumps(made.as_dict(private=True)).encode())
        try:
            key = RSAKey.import_key(json.loads(keyfiles.read(path)))
        except ValueError:
            raise FormatError(f"{path}: want a JSON Web Key") from None
        return cls(url, key, _clients(folder / "clients.json", roles, stale), clock)

    @property
    def issuer(self) -> str:
        """What its tokens have as ``iss``."""
        return f"{self.url}/{TENANT}/v2.0"

    @property
    def authorization(self) -> str:
        """What a challenge names as the authority to ask."""
        return f"{self.url}/{TENANT}"

    def jwks(self) -> dict[str, Any]:
        """Its public keys."""
        return {"keys": [{**self._key.as_dict(private=False), "use": "sig", "alg": "RS256"}]}

    def token(self, client: Client, audience: str, *, fresh: bool = False) -> str:
        """A token for a client, of an hour.

        Args:
            client: whose.
            audience: the service that it is for.
            fresh: whether claims were asked for as a service demanded.
        """
        at = int(self._clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": audience,
            "sub": client.id,
            "appid": client.id,
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
        return jwt.encode({"alg": "RS256", "kid": self._key.kid}, claims, self._key)

    def application(self) -> Starlette:
        """Its endpoints."""
        prefix = f"/{TENANT}"
        return Starlette(
            routes=[
                Route(prefix + "/v2.0/.well-known/openid-configuration", self._metadata),
                Route(prefix + "/.well-known/openid-configuration", self._metadata),
                Route(prefix + "/discovery/v2.0/keys", self._keys),
                Route(prefix + "/oauth2/v2.0/token", self._ask, methods=["POST"]),
                Route("/health/live", self._live),
            ]
        )

    async def _metadata(self, request: Request) -> Response:
        base = self.authorization
        return JSONResponse({
            "issuer": self.issuer,
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "grant_types_supported": ["client_credentials"],
        })  # fmt: skip

    async def _keys(self, request: Request) -> Response:
        return JSONResponse(self.jwks())

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def _ask(self, request: Request) -> Response:
        form = await _form(request)
        client = self.clients.get(form.get("client_id", ""))
        secret = form.get("client_secret", "")
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            return _refused(401, "invalid_client", "client_id and client_secret: want a pair of clients.json")
        if form.get("grant_type") != "client_credentials":
            return _refused(400, "unsupported_grant_type", "grant_type: want client_credentials")
        scope, suffix, rest = form.get("scope", "").partition("/.default")
        if not scope or not suffix or rest:
            return _refused(400, "invalid_scope", "scope: want one resource and /.default")
        token = self.token(client, scope, fresh=_asks_anew(form.get("claims", "")))
        return JSONResponse({
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": token,
        })  # fmt: skip


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM:
            return {}
    try:
        return {name: values[0] for name, values in parse_qs(body.decode("ascii"), max_num_fields=64).items()}
    except ValueError:
        return {}


def _asks_anew(claims: str) -> bool:
    """Whether a client sends along what a claims challenge told it to: a least ``nbf``."""
    try:
        return "nbf" in json.loads(claims)["access_token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _refused(status: int, code: str, why: str) -> Response:
    return JSONResponse({"error": code, "error_description": why}, status)


def _clients(path: Path, roles: Mapping[str, tuple[str, ...]], stale: frozenset[str]) -> dict[str, Client]:
    """The clients in the file, with those that ``roles`` has and the file lacks, which are written there."""
    try:
        known = msgspec.json.decode(keyfiles.read(path), type=list[Client]) if path.exists() else []
    except msgspec.MsgspecError as error:
        raise FormatError(f"{path}: {error}") from None
    found = {client.id: client for client in known}
    new = {
        name: Client(name, secrets.token_urlsafe(24), given, name in stale) for name, given in roles.items()
    }
    merged = {**new, **found}
    if merged != found:
        keyfiles.write(path, msgspec.json.format(msgspec.json.encode(list(merged.values()))))
    return merged
