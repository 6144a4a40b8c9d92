"""A development issuer of bearer tokens, on loopback, with the endpoints that ``azure-identity`` calls.

For development only: anyone who can read its clients' secrets can act as them. A real deployment configures
its own issuer instead, and this one does not run. Spec: RFC 6749, "Client Credentials Grant"; OpenID Connect
Discovery 1.0; the paths are Microsoft Entra's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kluis.serve.issuer import clients as kept
from kluis.serve.issuer import managed, signing
from kluis.serve.issuer.authentication import Authentication
from kluis.serve.issuer.clients import Client
from kluis.serve.issuer.refusals import HANDLERS, MOST_RESOURCE, refusal, show
from kluis.serve.issuer.registered import Registered
from kluis.serve.issuer.signing import TENANT, TOKEN_SECONDS, Signer
from kluis.services.clock import Clock

MOST_FORM: Final = 16 << 10
MOST_FIELDS: Final = 64
# Scopes that MSAL for Go and for Java request in addition to a resource, even for a client without a user.
OF_USERS: Final = frozenset({"openid", "offline_access", "profile", "email"})


class DevelopmentIssuer:
    """Issues tokens to the clients of one state directory.

    Args:
        signer: signs them.
        clients: by id.
        registered: credentials that clients may use instead of their secrets.
        clock: returns the time.

    Raises:
        UsageError: a registration for an unknown client.
    """

    def __init__(
        self, signer: Signer, clients: Mapping[str, Client], registered: Registered, clock: Clock
    ) -> None:
        registered.check(clients)
        self.clients = clients
        self._signer = signer
        self._authentication = Authentication(clients, registered, signer.endpoint)
        self._clock = clock

    @classmethod
    def load_or_create(
        cls,
        folder: Path,
        url: str,
        roles: Mapping[str, tuple[str, ...]],
        clock: Clock,
        stale: frozenset[str] = frozenset(),
        registered: Registered | None = None,
    ) -> Self:
        """Load the issuer's key and clients from ``folder``, or create them there.

        Args:
            folder: dedicated; only this user can read its files.
            url: of the issuer for clients, without a trailing slash.
            roles: of each client, by its name; a new client gets a secret.
            clock: returns the time.
            stale: the clients whose tokens are marked, if they are new.
            registered: credentials that clients may use instead of their secrets.

        Raises:
            UnavailableError: a file is another user's, or accessible to others.
            FormatError: a file is damaged.
            UsageError: a registration for an unknown client.
        """
        signer = Signer(url, signing.load_or_create(folder / "signing.jwk"), clock)
        clients = kept.load_or_create(folder / "clients.json", roles, stale)
        return cls(signer, clients, registered or Registered(), clock)

    @property
    def issuer(self) -> str:
        """The ``iss`` of its tokens."""
        return self._signer.issuer

    @property
    def authorization(self) -> str:
        """The authority in a challenge."""
        return self._signer.authorization

    def jwks(self) -> dict[str, Any]:
        """Its public keys."""
        return self._signer.jwks()

    def application(self) -> Starlette:
        """Its endpoints."""
        return Starlette(
            routes=[
                Route("/{tenant}/v2.0/.well-known/openid-configuration", self._metadata),
                Route("/{tenant}/.well-known/openid-configuration", self._metadata),
                Route("/{tenant}/discovery/v2.0/keys", self._keys),
                Route("/{tenant}/oauth2/v2.0/token", self._ask, methods=["POST"]),
                Route("/health/live", self._live),
                managed.application_route(self._signer, self.clients),
            ],
            exception_handlers=HANDLERS,
        )

    def insecure_managed_identity(self, hosts: frozenset[str]) -> Starlette:
        """The instance metadata endpoint: any process that reaches it gets tokens of ``workload``.

        Args:
            hosts: its valid ``host:port`` names.
        """
        return managed.metadata(self._signer, self.clients, hosts)

    async def _metadata(self, request: Request) -> Response:
        _check_tenant(request)
        base = self.authorization
        return JSONResponse({
            "issuer": self.issuer,
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": self._signer.endpoint,
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS256", "PS256"],
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "grant_types_supported": ["client_credentials"],
        })  # fmt: skip

    async def _keys(self, request: Request) -> Response:
        _check_tenant(request)
        return JSONResponse(self.jwks())

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def _ask(self, request: Request) -> Response:
        _check_tenant(request)
        form = await _form(request)
        _check_there(form)
        scope, claims = form.get("scope", ""), form.get("claims", "")
        resource = _resource(scope)
        wanted = hashlib.sha256(json.dumps([resource, claims]).encode()).digest()
        client, proof = self._authentication.check(form, wanted, self._clock.now())
        if form.get("grant_type") != "client_credentials":
            raise refusal(
                "unsupported_grant_type",
                f"grant_type: want client_credentials, got {show(form.get('grant_type'))}",
                number=70003,
            )
        if resource is None:
            raise refusal(
                "invalid_scope", f"scope: want one resource and /.default, got {show(scope)}", number=70011
            )
        token, _ = self._signer.token(client, resource, proof, fresh=_asks_anew(claims))
        return JSONResponse({
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": token,
        })  # fmt: skip


def _check_tenant(request: Request) -> None:
    tenant = request.path_params["tenant"]
    if tenant != TENANT:
        raise refusal("invalid_tenant", f"tenant: want {TENANT}, got {show(tenant)}", number=90002)


def _check_there(form: Mapping[str, str]) -> None:
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name):
            raise refusal(
                "invalid_request",
                f"The request body must contain the following parameter: '{name}'.",
                number=900144,
            )


async def _form(request: Request) -> dict[str, str]:
    """The posted form; a repeated field is refused, because parsers disagree on which one counts."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM:
            raise refusal("invalid_request", f"body: want at most {MOST_FORM} bytes, got more", status=413)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise refusal(
            "invalid_request", f"body: want a form of at most {MOST_FIELDS} fields, got another"
        ) from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise refusal("invalid_request", "body: want each field once, got one twice")
    return form


def _resource(scope: str) -> str | None:
    """The only requested resource, in any spelling; None if there is not exactly one."""
    named = [each for each in scope.split() if each not in OF_USERS]
    resource, suffix, rest = (named[0] if len(named) == 1 else "").partition("/.default")
    return resource if resource and suffix and not rest and len(resource) <= MOST_RESOURCE else None


def _asks_anew(claims: str) -> bool:
    """Whether a client sends the claims that a claims challenge required: a least ``nbf``."""
    try:
        return "nbf" in json.loads(claims)["access_token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
