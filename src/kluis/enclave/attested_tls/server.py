"""Serves an ASGI application over a listening socket: accepts, bounds, deadlines and a drain.

HTTP/1.1 is uvicorn's, over h11, and WebSocket uvicorn's over wsproto, if the application wants it. TLS 1.3
ends in :mod:`kluis.enclave.attested_tls.connection`. docs/decisions/0014-uvicorn-serves-inside.md has the
reasons.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, Protocol

from OpenSSL import SSL
from uvicorn import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from kluis.enclave.attested_tls.accepting import (
    ACCEPT_PAUSE_SECONDS,
    has_client,
    next_client,
    pause,
    readable,
)
from kluis.enclave.attested_tls.client_certificates import tls_extension
from kluis.enclave.attested_tls.connection import Connection
from kluis.enclave.attested_tls.evidence_requests import Application, EvidenceRequests
from kluis.enclave.attested_tls.http import Http
from kluis.enclave.attested_tls.judge import Judge, Peer
from kluis.enclave.attested_tls.limits import Limits
from kluis.enclave.attested_tls.link import Link, ServerKey
from kluis.enclave.attested_tls.meter import Meter
from kluis.errors import UnavailableError, UsageError
from kluis.formats.kluis.attested_tls import PATH, Role

if TYPE_CHECKING:
    from kluis.enclave.attested_tls.websockets import WebSockets


class Identity(Protocol):
    """What a server shows its clients, where the code inside decides that and not its host.

    Its settings are as :func:`kluis.enclave.attested_tls.link.server_context` makes them, and are read for
    each connection. Where they ask clients for certificates, each request's ``scope["extensions"]["tls"]``
    has them.
    """

    @property
    def context(self) -> SSL.Context:
        """A server's settings."""
        ...


class Server:
    """Serves one application on one listening socket.

    Attributes:
        key: of its TLS.
        meter: counts its requests; None: nothing does.

    Args:
        application: ASGI 3.
        peers: requirements on clients that attest themselves; None: clients are not attested.
        limits: for clients.
        identity: of its TLS; None: a key generated here.
        websockets: serves the ASGI scope ``websocket``; None: it is not served.
    """

    def __init__(
        self,
        application: Application,
        *,
        peers: Judge | None = None,
        limits: Limits | None = None,
        identity: Identity | None = None,
        websockets: WebSockets | None = None,
    ) -> None:
        self.meter: Meter | None = None
        self._peers = peers
        self._limits = limits or Limits()
        self._websockets = websockets
        self.key: Identity = identity or ServerKey()
        self._state = ServerState()
        self._open: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Event | None = None
        self._patience = 0.0
        self._ending = False
        self._free: asyncio.Semaphore
        self._config = Config(
            application,
            lifespan="auto",
            ws="none",
            **(websockets.settings if websockets else {}),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=self._limits.head_bytes,
            timeout_keep_alive=max(1, round(self._limits.idle_seconds)),
        )

    async def serve(self, listener: socket.socket) -> None:
        """Serve until :meth:`drain`.

        Args:
            listener: a listening stream socket, non-blocking; owned by the caller.

        Raises:
            UnavailableError: the application's start-up failed.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_tell_nothing)
        self._draining = asyncio.Event()
        self._free = asyncio.Semaphore(self._limits.connections)
        self._config.load()
        lifespan = LifespanOn(self._config)
        await lifespan.startup()
        if lifespan.should_exit:
            raise UnavailableError("application: its start-up failed")
        background = [
            asyncio.create_task(self._accept(listener, lifespan.state)),
            asyncio.create_task(self._tell_time()),
        ]
        await self._draining.wait()
        self._ending = True
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._finish()
        await lifespan.shutdown()

    def drain(self, seconds: float) -> None:
        """Accept no more connections, let requests finish within ``seconds``, then end; callable from any
        thread, returns at once.

        Raises:
            UsageError: it is not serving.
        """
        loop, draining = self._loop, self._draining
        if loop is None or draining is None:
            raise UsageError("drain: want a server that serves, got one that does not")
        self._patience = seconds
        with contextlib.suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(draining.set)

    async def _accept(self, listener: socket.socket, state: dict[str, Any]) -> None:
        while True:
            try:
                await self._place(listener)
            except SCARCE:
                await pause()
                continue
            try:
                await self._accept_one(listener, state)
            except SCARCE:  # of memory or descriptors, or the peer has gone: all pass
                self._free.release()
                await pause()
            except BaseException:
                self._free.release()
                raise

    async def _place(self, listener: socket.socket) -> None:
        """Reserve a place for a client. If there is none, idle connections make room for waiting clients."""
        while self._free.locked():
            await readable(listener)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ACCEPT_PAUSE_SECONDS):
                    await self._free.acquire()
                    return
            if has_client(listener):  # whom no other instance has taken meanwhile
                self._make_room()
        await self._free.acquire()

    def _make_room(self) -> None:
        """Close connections that wait for their clients: those without any request first, then some
        kept-alive ones.
        """
        patient = sorted(
            (one for one in self._open if one.waits >= GIVE_WAY_SECONDS), key=lambda one: -one.waits
        )
        for one in [one for one in patient if not one.has_request] or patient[:MOST_KEPT_ENDED]:
            one.give_way()

    async def _accept_one(self, listener: socket.socket, state: dict[str, Any]) -> None:
        """Accept one client; if anything is raised, only its place remains reserved."""
        made = await next_client(listener)
        # An accepted client is served: a drain, which cancels this, does not interrupt its start.
        await asyncio.shield(self._begin(made, state))

    async def _begin(self, made: socket.socket, state: dict[str, Any]) -> None:
        connection: Connection | None = None
        try:
            made.setblocking(False)
            if made.family in (socket.AF_INET, socket.AF_INET6):
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = begun = self._connection(state)
            self._open.add(begun)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: begun, made)
        except BaseException:
            if connection is not None:
                self._open.discard(connection)
                connection.abort()
            made.close()
            raise

    def _connection(self, state: dict[str, Any]) -> Connection:
        link = Link(self.key.context, Role.SERVER)
        peer, tls = Peer(link), functools.cache(lambda: tls_extension(link))
        requests = EvidenceRequests(
            self._config.loaded_app,
            peer,
            self._peers,
            max_body_bytes=self._limits.body_bytes,
            stall_seconds=self._limits.stall_seconds,
            slowest_body=self._limits.slowest_body,
        )
        made: Connection

        async def application(scope: Any, receive: Any, send: Any) -> None:
            made.head_complete()
            # A client that requests evidence has a request to send, and would lose it if this were the last
            # answer.
            last = scope["path"] != PATH
            whole, status, began = False, 0, time.monotonic()
            if link.asks_clients:
                scope["extensions"] = {**scope.get("extensions", {}), "tls": tls()}

            async def say(message: Any) -> None:
                nonlocal whole, status
                if message["type"] == "http.response.start":
                    status = message["status"]
                if self._ending and last and message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
                await send(message)
                whole = message["type"] == "http.response.body" and not message.get("more_body", False)

            counted = self.meter if last and scope["type"] == "http" else None
            if counted is not None:
                counted.begin()
            try:
                await requests(scope, receive, say if scope["type"] == "http" else send)
            except Exception as error:  # a framework raises what it has answered with 500
                if not whole:
                    raise
                # If raised further, it would close the connection without notice, under the client's next
                # request.
                logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
            finally:
                if counted is not None:
                    counted.end(status, time.monotonic() - began, scope["headers"])

        def upper() -> Http:
            protocol = Http(self._config, self._state, state)
            protocol.app = application
            if self._websockets is not None:
                protocol.ws_protocol_class = self._websockets.protocol(application)
            return protocol

        made = Connection(
            link,
            upper,
            self._discard,
            handshake_seconds=self._limits.handshake_seconds,
            head_seconds=self._limits.head_seconds,
            stall_seconds=self._limits.stall_seconds,
            idle_seconds=self._limits.idle_seconds,
        )
        return made

    def _discard(self, connection: Connection) -> None:
        if connection in self._open:  # else its place was given back before it began
            self._open.discard(connection)
            self._free.release()

    async def _finish(self) -> None:
        """Answer the remaining requests on each connection, and close it; abort connections that do not end.

        A client that keeps a connection may be about to use it. So its next answer announces that it is the
        last one, and only an idle connection is closed without notice.
        """
        for one in list(self._open):
            one.end_websocket()
        now = asyncio.get_running_loop().time
        end, idle = now() + self._patience, now() + min(self._patience, DRAIN_IDLE_SECONDS)
        while self._open and now() < end:
            if now() >= idle:
                for connection in [one for one in self._open if one.idle]:
                    connection.close()
            await asyncio.sleep(DRAIN_LOOK_SECONDS)
        for connection in list(self._open):
            connection.abort()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    async def _tell_time(self) -> None:
        """Update the ``Date`` header, whose time comes from the host."""
        while True:
            try:
                self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
                await asyncio.sleep(1)
            except MemoryError:  # the header keeps its time until there is memory
                await pause()


def _tell_nothing(*_: object) -> None:
    """Discard a task's unhandled exception, which the host must not see."""


# An exception's text may contain a secret, and standard error is the host's. Only a logging handler that the
# application adds receives its handlers' exceptions.
for _name in ("uvicorn", "asyncio"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False

GIVE_WAY_SECONDS: Final = 1.0
"""How long a client may keep an idle place while another waits for one."""
MOST_KEPT_ENDED: Final = 16
# Errors when creating a connection that need not affect others: OpenSSL has a separate error for failed
# allocations.
SCARCE: Final = (OSError, MemoryError, SSL.Error)
DRAIN_LOOK_SECONDS: Final = 0.01
DRAIN_IDLE_SECONDS: Final = 1.0
"""How long a kept connection may stay idle, while its server drains, before it is closed."""
