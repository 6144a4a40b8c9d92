"""A server in a thread: clients reach it by name, and it ends."""

from __future__ import annotations

import contextlib
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from kluis.serve.background import Background
from kluis.serve.front.authority import LoopbackAuthority
from kluis.serve.front.naming import Front
from kluis.serve.issuer import TENANT, DevelopmentIssuer
from kluis.serve.plan import Plan, listening
from kluis.serve.start import _issuer
from kluis.services.clock import SystemClock


def test_the_issuer_is_reached_over_tls(tmp_path: Path) -> None:
    """A client that trusts the loopback root reads the issuer's keys; nobody answers once it has ended."""
    now = datetime.now(UTC)
    authority = LoopbackAuthority.load_or_create(tmp_path / "ca", now)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}"
        issuer = DevelopmentIssuer.load_or_create(tmp_path / "issuer", url, {"admin": ()}, SystemClock())
        context = authority.server_context(tmp_path / "issuer", ("localhost",), now)
        trust = ssl.create_default_context(cadata=authority.root_pem().decode())
        with (
            Background(issuer.application(), listener, context),
            httpx.Client(verify=trust, timeout=120) as client,
        ):
            assert client.get(f"{url}/{TENANT}/discovery/v2.0/keys").json() == issuer.jwks()
    with httpx.Client(verify=trust, timeout=120) as client, pytest.raises(httpx.ConnectError):
        client.get(url)


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (
            b"hello\r\n\r\n",
            400,
            b'{"error":{"code":"malformed","message":"request: want HTTP/1.1, got another: ',
        ),
        (
            b"GET http://x/health/live HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
            200,
            b'{"status":"live"}',
        ),
    ],
)
def test_it_speaks_http_as_the_services_do(tmp_path: Path, said: bytes, status: int, body: bytes) -> None:
    """What is no HTTP is refused in the shape of every refusal; a target in absolute form is a path."""
    issuer = DevelopmentIssuer.load_or_create(tmp_path, "http://x", {}, SystemClock())
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Background(issuer.application(), listener),
        socket.create_connection(listener.getsockname(), timeout=120) as client,
    ):
        client.sendall(said)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert rest.startswith(body)


@pytest.mark.parametrize("asked", [False, True])
def test_a_managed_identity_is_there_where_it_was_asked_for(tmp_path: Path, asked: bool) -> None:
    """Over plain HTTP, by its own address and by name, in addition to the issuer; and only on request."""
    plan = Plan(services=("keyvault",), state=tmp_path, port=0, insecure_managed_identity=asked)
    authority = LoopbackAuthority.load_or_create(tmp_path / "ca", datetime.now(UTC))
    path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(listening(plan))
        addresses = {name: plan.url(name, one.getsockname()[1]) for name, one in sockets.items()}
        front = Front(plan, authority, SystemClock())
        _issuer(plan, SystemClock(), front, sockets, addresses, stack)
        url = addresses.get("insecure_managed_identity")
        assert (url is not None) is asked
        if url is None:
            return
        assert url.startswith("http://127.0.0.1:")
        for one in (url, url.replace("127.0.0.1", "localhost")):
            answer = httpx.get(one + path, headers={"Metadata": "true"}, timeout=120)
            assert (answer.status_code, answer.json()["client_id"]) == (200, "workload")
