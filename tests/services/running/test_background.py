"""A server in a thread: clients reach it by name, and it ends."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from kluis.services.clock import SystemClock
from kluis.services.running.authority import LoopbackAuthority
from kluis.services.running.background import Background
from kluis.services.running.issuer import TENANT, DevelopmentIssuer


def test_the_issuer_is_reached_over_tls(tmp_path: Path) -> None:
    """A client that trusts the loopback root reads the issuer's keys; nobody answers once it has ended."""
    now = datetime.now(UTC)
    authority = LoopbackAuthority.load_or_create(tmp_path / "ca", now)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}"
        issuer = DevelopmentIssuer.load_or_create(tmp_path / "issuer", url, {"admin": ()}, SystemClock())
        context = authority.server_context(tmp_path / "issuer", ("localhost",), now)
        trust = ssl.create_default_context(cadata=authority.root_pem().decode())
        with Background(issuer.application(), listener, context), httpx.Client(verify=trust) as client:
            assert client.get(f"{url}/{TENANT}/discovery/v2.0/keys").json() == issuer.jwks()
    with httpx.Client(verify=trust) as client, pytest.raises(httpx.ConnectError):
        client.get(url)
