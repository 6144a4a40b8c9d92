"""Serve an ASGI application of the host with uvicorn in a thread: the issuer's endpoints."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Any, Final, Self

from uvicorn import Config, Server

from kluis.enclave.attested_tls.http import Http
from kluis.errors import UnavailableError

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


class Background:
    """A server in a thread, for as long as the ``with`` lasts.

    Args:
        application: ASGI 3.
        listener: socket for clients; owned by the caller.
        context: its TLS; None: plain HTTP.
    """

    def __init__(
        self, application: Any, listener: socket.socket, context: ssl.SSLContext | None = None
    ) -> None:
        config = Config(
            application,
            http=Http,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ssl_context_factory=None if context is None else lambda *_: context,
        )
        self._server = _Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="kluis-issuer", daemon=True)

    def __enter__(self) -> Self:
        """Start it, and wait until it serves.

        Raises:
            UnavailableError: it did not start.
        """
        self._thread.start()
        if not self._server.begun.wait(START_SECONDS):
            raise UnavailableError("issuer: did not begin to serve")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with self._listener.dup() as own:
            asyncio.run(self._server.serve(sockets=[own]))


class _Server(Server):
    """A server that signals its start, and leaves process signals to the main thread."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.begun = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()
