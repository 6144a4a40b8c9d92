"""Authenticate clients at the token endpoint, by secret or by assertion.

Spec: RFC 6749, "Client Authentication"; RFC 7523, "Using JWTs for Client Authentication".
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kluis.serve.issuer import certificates, federation
from kluis.serve.issuer.assertion import read
from kluis.serve.issuer.clients import Client
from kluis.serve.issuer.refusals import refusal, show
from kluis.serve.issuer.registered import Registered
from kluis.serve.issuer.replay import Shown
from kluis.serve.issuer.signing import Proof

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Authentication:
    """Authenticates clients.

    Args:
        clients: by id.
        registered: credentials that they may use instead of their secrets.
        endpoint: the URL of the token endpoint.
    """

    def __init__(self, clients: Mapping[str, Client], registered: Registered, endpoint: str) -> None:
        self._clients = clients
        self._registered = registered
        self._endpoint = endpoint
        self._shown = Shown()

    def check(self, form: Mapping[str, str], request: bytes, now: datetime) -> tuple[Client, Proof]:
        """The client of a form, and its method of authentication.

        Args:
            form: as posted.
            request: a digest of the request: an assertion is valid once for each.
            now: aware.

        Raises:
            Refusal: no valid credential, or two.
        """
        if "client_assertion" not in form:
            return self._by_secret(form), Proof.SECRET
        if "client_secret" in form:
            raise refusal("invalid_request", "client_secret: want no secret with client_assertion, got one")
        if form.get("client_assertion_type") != JWT_BEARER:
            raise refusal(
                "invalid_request",
                f"client_assertion_type: want {JWT_BEARER}, got {show(form.get('client_assertion_type'))}",
            )
        return self._by_assertion(form, request, now), Proof.SIGNATURE

    def _by_secret(self, form: Mapping[str, str]) -> Client:
        client, secret = self._clients.get(form.get("client_id", "")), form.get("client_secret", "")
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise refusal(
                "invalid_client",
                "client_id and client_secret: want a pair of clients.json, got another",
                number=7000215,
            )
        return client

    def _by_assertion(self, form: Mapping[str, str], request: bytes, now: datetime) -> Client:
        name = form.get("client_id", "")
        client = self._clients.get(name)
        if client is None:
            want = ", ".join(sorted(self._clients))
            raise refusal("invalid_client", f"client_id: want one of {want}, got {show(name)}", number=700016)
        own, others = self._registered.certificates_of(name), self._registered.federated_of(name)
        if not own and not others:
            raise refusal(
                "invalid_client",
                f"client_assertion: want a certificate or a federated subject registered for {name}, got"
                f" none: kluis serve ... --client-certificate {name}=CERT.pem, or --federated FILE",
            )
        assertion = read(form["client_assertion"])
        # A client's self-signed assertion has the client as issuer; a federated issuer is a URL, which no
        # client id is.
        if others and (not own or assertion.claims.get("iss") != name):
            federation.check(assertion, name, others, now)
        else:
            end = certificates.check(assertion, name, own, self._endpoint, now)
            self._shown.admit(name, assertion, request, end, now)
        return client
