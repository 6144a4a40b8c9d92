"""Serves an ASGI application inside an enclave, over a listening socket from its host.

TLS 1.3 ends inside, with a key generated inside. A client requests evidence on the same connection, and so
authenticates the enclave. HTTP/1.1 is uvicorn's, over h11, and WebSocket uvicorn's, over wsproto. In an
application's module::

    app = Enclave("web", product_id=9, svn=1)
    asgi.host(app, web)                # web: a Starlette, FastAPI or any ASGI application
    asgi.host(app, web, websockets=asgi.WebSockets())       # with WebSocket; its image needs wsproto

declares the ecalls ``serve``, which returns after ``drain`` when all requests are done, and
``certificate_request``, ``use_certificate`` and ``use_key`` for clients that check a server's name. The
listening socket stays the host's: to restart without refusing connections, it starts the next enclave on the
socket first, then drains this one. docs/decisions/0014-uvicorn-serves-inside.md has the reasons.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kluis.enclave.app import Enclave
from kluis.enclave.attested_tls.evidence_requests import Application, attested_peer
from kluis.enclave.attested_tls.judge import Judge, attest_self
from kluis.enclave.attested_tls.limits import Limits
from kluis.enclave.attested_tls.link import ServerKey
from kluis.enclave.attested_tls.meter import Meter
from kluis.enclave.attested_tls.server import Identity, Server
from kluis.enclave.grants import granted_socket
from kluis.errors import UsageError

if TYPE_CHECKING:
    from kluis.enclave.attested_tls.client import AttestedTransport
    from kluis.enclave.attested_tls.websockets import WebSockets
    from kluis.enclave.connected import Granted

__all__ = [
    "AttestedTransport", "Granted", "Identity", "Judge", "Limits", "Server", "WebSockets", "attest_self",
    "attested_peer", "host",
]  # fmt: skip


_LATE = {
    "AttestedTransport": "kluis.enclave.attested_tls.client",
    "Granted": "kluis.enclave.connected",
    "WebSockets": "kluis.enclave.attested_tls.websockets",
}


def __getattr__(name: str) -> Any:
    """Load the client's side and its httpx, or WebSocket and its wsproto, on first use: most do without."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)


def host(
    app: Enclave,
    application: Application,
    *,
    grant: str = "listen:web",
    peers: Judge | None = None,
    limits: Limits | None = None,
    identity: Identity | None = None,
    websockets: WebSockets | None = None,
    metrics: Callable[[], bytes] | None = None,
) -> Server:
    """Declare the ecalls that serve ``application`` on a granted socket, drain it, and certify its key.

    Args:
        app: that declares the ecalls.
        application: ASGI 3.
        grant: in the manifest, for which the host provides a listening socket.
        peers: requirements on clients that attest themselves; None: clients are not attested.
        limits: for clients.
        identity: of its TLS; None: a key generated here, which the host can have certified.
        websockets: serves the ASGI scope ``websocket``; None: an upgrade is answered as the HTTP request that
            it is.
        metrics: returns the application's own counts for the host, in Prometheus' text format; None: requests
            are counted here.
    """
    server = Server(application, peers=peers, limits=limits, identity=identity, websockets=websockets)
    if metrics is None:
        server.meter = meter = Meter(app.name)
        metrics = meter.text

        @app.ecall
        def recent_requests() -> bytes:
            """Times, statuses and traces of requests since the last call, JSON; never any content."""
            return meter.recent()

    once = threading.Lock()

    @app.ecall
    def serve() -> None:
        """Serve until ``drain``; once for each launch."""
        if not once.acquire(blocking=False):
            raise UsageError("serve: serves already, or has served")
        with granted_socket(grant) as listener:
            listener.setblocking(False)
            asyncio.run(server.serve(listener))

    @app.ecall
    def drain(seconds: float) -> None:
        """Accept no more connections, let requests finish within ``seconds``, then return from ``serve``."""
        server.drain(seconds)

    @app.ecall
    def request_metrics() -> bytes:
        """Counts and times of requests, in Prometheus' text format; never any content."""
        return metrics()

    if isinstance(server.key, ServerKey):
        _declare_naming(app, server.key)
    return server


def _declare_naming(app: Enclave, key: ServerKey) -> None:
    @app.ecall
    def certificate_request() -> bytes:
        """A request for a certificate of the TLS key: PKCS#10, PEM."""
        return key.request()

    @app.ecall
    def use_certificate(chain: bytes) -> None:
        """Use this chain (PEM) for clients: its name is the host's statement, and proves nothing more."""
        key.adopt(chain)

    @app.ecall
    def use_key(private_key: bytes, chain: bytes) -> None:
        """Use the operator's own key and chain (both PEM) for clients: they prove only a name."""
        key.adopt_key(private_key, chain)
