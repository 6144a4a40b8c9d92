"""Serve an ASGI application of the host with uvicorn in a thread: the issuer's endpoints.

Connections are accepted here. Their number is bounded, as the process has other uses for its descriptors; the
oldest one gives way to a new one, so that those who open many and send nothing keep nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Coroutine
from typing import Any, Final, Self

from uvicorn import Config, Server

from kluis.enclave.attested_tls.http import Http
from kluis.errors import UnavailableError

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
MOST_CONNECTIONS: Final = 128
HANDSHAKE_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 0.1
"""Before the next attempt to accept, when the process has no descriptor left."""


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
        self._server = _Server(config, listener, context)
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
        asyncio.run(self._server.serve(sockets=[]))


class _Server(Server):
    """A server that signals its start, and leaves process signals to the main thread."""

    def __init__(self, config: Config, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self.begun = threading.Event()
        self._listener = listener
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begin(self._accept())
        self.begun.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        there: list[socket.socket] = []  # the oldest first
        with self._listener.dup() as own:
            own.setblocking(False)
            while True:
                try:
                    client, _ = await loop.sock_accept(own)
                except OSError:
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                there = [each for each in there if each.fileno() != -1]
                if len(there) >= MOST_CONNECTIONS:
                    with contextlib.suppress(OSError):  # it has just ended
                        there.pop(0).shutdown(socket.SHUT_RDWR)
                there.append(client)
                self._begin(self._connect(client))

    async def _connect(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                client,
                ssl=self._context,
                ssl_handshake_timeout=None if self._context is None else HANDSHAKE_SECONDS,
            )
        except (TimeoutError, OSError):  # such as a handshake that failed
            client.close()

    def _protocol(self) -> asyncio.Protocol:
        return Http(self.config, self.server_state, self.lifespan.state)
