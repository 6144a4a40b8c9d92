"""Managed identities: tokens from an endpoint of the machine or of an application.

``ManagedIdentityCredential`` calls it. :func:`metadata` is the instance metadata endpoint, over plain HTTP:
it does not authenticate, so any process that reaches it has the tokens of :data:`IDENTITY`. It only refuses
forwarded requests: a server that fetches for others (no ``Metadata`` header), a proxy (``X-Forwarded-For``),
or a page in a browser that uses the page's own name (``Host``). :func:`application_route` is App Service's,
whose header is the client's secret. Container Instances have a similar one with other names, which the
sidecar of confidential containers uses.

Spec: Microsoft Entra, "How to use managed identities on an Azure VM to acquire an access token", "Error
handling"; Azure App Service, "REST endpoint reference"; Azure Container Instances, "Managed identity on
Windows containers".
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kluis.serve.issuer.clients import Client
from kluis.serve.issuer.refusals import HANDLERS, MOST_RESOURCE, refusal, show
from kluis.serve.issuer.signing import TOKEN_SECONDS, Proof, Signer
from kluis.services.web import Refusal

IDENTITY: Final = "workload"
METADATA_PATH: Final = "/metadata/identity/oauth2/token"
METADATA_VERSION: Final = "2018-02-01"
APPLICATION_PATH: Final = "/msi/token"
APPLICATION_VERSION: Final = "2019-08-01"
FORWARDED: Final = ("X-Forwarded-For", "Forwarded")
# Each selects an identity, and the only selector supported is its client_id; for Container Instances, its
# principalId.
NAMES: Final = ("client_id", "object_id", "principal_id", "principalId", "msi_res_id", "mi_res_id")
SECRETS: Final = {"x-identity-header": "client_id", "secret": "principalId"}


def metadata(signer: Signer, clients: Mapping[str, Client], hosts: frozenset[str]) -> Starlette:
    """The instance metadata endpoint, only for :data:`IDENTITY`.

    Args:
        signer: signs its tokens.
        clients: by id; includes :data:`IDENTITY`.
        hosts: its valid ``host:port`` names.
    """

    async def ask(request: Request) -> Response:
        """Return a token.

        1. The request was not forwarded.
        2. ``Metadata: true`` is present, once.
        3. ``Host`` is this endpoint's own.
        4. The identity, if one is named, is the only one.
        """
        _check_forwarded(request)  # 1
        if (got := request.headers.getlist("metadata")) != ["true"]:  # 2
            raise refusal("invalid_request", f"Metadata header: want true, got {show(got)}")
        if (host := request.headers.get("host", "")).lower() not in hosts:  # 3
            raise refusal("invalid_request", f"Host: want {' or '.join(sorted(hosts))}, got {show(host)}")
        parameters = _parameters(request, METADATA_VERSION, "client_id")
        if parameters.get("client_id", IDENTITY) != IDENTITY:  # 4
            raise refusal(
                "invalid_request", f"client_id: want {IDENTITY} or none, got {show(parameters['client_id'])}"
            )
        return _grant(signer, clients[IDENTITY], parameters["resource"], Proof.NONE)

    return Starlette(routes=[Route(METADATA_PATH, ask)], exception_handlers=HANDLERS)


def application_route(signer: Signer, clients: Mapping[str, Client]) -> Route:
    """The endpoint of App Service and of Container Instances, for the named client or :data:`IDENTITY`.

    ``X-IDENTITY-HEADER``, or ``secret`` in the second form, is the secret of that client, so a caller gains
    nothing new. That form has no ``api-version`` from the client: the endpoint's URL contains it.
    """

    async def ask(request: Request) -> Response:
        try:
            _check_forwarded(request)
            shows = [name for name in request.headers if name in SECRETS]
            if len(shows) > 1:
                raise refusal("invalid_request", "X-IDENTITY-HEADER, secret: want one of them, once")
            header = shows[0] if shows else "x-identity-header"
            named = SECRETS[header]
            parameters = _parameters(request, None if header == "secret" else APPLICATION_VERSION, named)
            client = clients.get(parameters.get(named, IDENTITY))
            secret = request.headers.get(header, "")
            # A header's bytes are decoded as Latin-1; a secret is ASCII, and encoding either way cannot fail.
            if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
                raise refusal(
                    "invalid_client",
                    f"{header.upper()}: want the secret, in clients.json, of the requested client, got"
                    " another",
                )
        except Refusal as error:
            body = {"statusCode": error.status, "message": error.message}
            return JSONResponse(body, error.status)
        return _grant(signer, client, parameters["resource"], Proof.SECRET)

    return Route(APPLICATION_PATH, ask)


def _check_forwarded(request: Request) -> None:
    for name in FORWARDED:
        if name in request.headers:
            raise refusal("invalid_request", f"{name}: want none, for nothing here is for others, got one")


def _parameters(request: Request, version: str | None, named: str) -> dict[str, str]:
    """The query's parameters, each once.

    Args:
        request: to read.
        version: of the API; None if the client does not send it.
        named: parameters that select an identity.
    """
    pairs = request.query_params.multi_items()
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise refusal("invalid_request", "query: want each parameter once, got one twice")
    if version is not None and parameters.get("api-version") != version:
        raise refusal(
            "invalid_request", f"api-version: want {version}, got {show(parameters.get('api-version'))}"
        )
    if not 1 <= len(parameters.get("resource", "")) <= MOST_RESOURCE:
        raise refusal("invalid_request", f"resource: want one, of at most {MOST_RESOURCE} characters")
    for name in NAMES:
        if name in parameters and name != named:
            raise refusal("invalid_request", f"{name}: want an identity by {named}, or none, got this")
    return parameters


def _grant(signer: Signer, client: Client, resource: str, proof: Proof) -> Response:
    """The token in Azure's form: numbers are text."""
    token, end = signer.token(client, resource, proof)
    return JSONResponse({
        "access_token": token,
        "client_id": client.id,
        "expires_in": str(TOKEN_SECONDS),
        "ext_expires_in": str(TOKEN_SECONDS),
        "expires_on": str(end),
        "not_before": str(end - TOKEN_SECONDS),
        "resource": resource,
        "token_type": "Bearer",
    })  # fmt: skip
