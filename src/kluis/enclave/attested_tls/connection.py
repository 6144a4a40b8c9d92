"""One connection to an enclave: TLS at the bottom, uvicorn's HTTP or WebSocket protocol on top.

The bottom is an asyncio protocol that receives ciphertext from the socket's transport; to the top it is a
transport. A peer that is slow to finish its handshake or its request's head is disconnected.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from kluis.enclave.attested_tls.link import CHUNK, Link
from kluis.errors import AuthenticityError


class Connection(asyncio.Protocol):
    """The server side of TLS for one socket.

    Args:
        link: the server's end.
        upper: creates the HTTP protocol, once the handshake is done.
        lost: called when the socket has closed.
        handshake_seconds: for the handshake.
        head_seconds: between a connection's first byte of a request and its handler's start.
        stall_seconds: how long the client may leave sent data unread.
        idle_seconds: between the handshake and the first byte of a request.
    """

    def __init__(
        self,
        link: Link,
        upper: Callable[[], Any],
        lost: Callable[[Connection], None],
        *,
        handshake_seconds: float,
        head_seconds: float,
        stall_seconds: float,
        idle_seconds: float,
    ) -> None:
        self._link = link
        self._make = upper
        self._lost = lost
        self._head_seconds = head_seconds
        self._stall_seconds = stall_seconds
        self._idle_seconds = idle_seconds
        self._silent: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._below: asyncio.Transport | None = None
        self.upper: Any = None
        self._deadline: asyncio.TimerHandle | None = self._loop.call_later(handshake_seconds, self.abort)
        self._since = self._loop.time()
        self._closing = False
        self._paused = False
        self._held: deque[bytes] = deque()
        self._unsealed: list[bytes] = []
        self._unsealed_bytes = 0

    # Called by the socket's transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start: the client sends first."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy: a stream socket has no other
        self._below = transport

    def data_received(self, data: bytes) -> None:
        """Decrypt received data and pass it on."""
        try:
            self._link.feed(data)
            if self.upper is None:
                done = self._link.handshake()
                self._flush()
                if not done:
                    return
                self._settle()
                self.upper = self._make()
                self.upper.connection_made(self)
                self._silent = self._loop.call_later(self._idle_seconds, self.close)
                self._since = self._loop.time()
            self._deliver()
        except AuthenticityError:
            self._flush()  # the alert, which is TLS's own
            self.abort()

    def eof_received(self) -> None:
        """The socket's other end closed: even without TLS's closing alert, the connection ends."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._settle()
        self._break_silence()
        self._read_on()
        self._closing = True
        if self.upper is not None:
            self.upper.connection_lost(exc)
        self._lost(self)

    def pause_writing(self) -> None:
        """The socket's buffer is full: its other end must read within the timeout."""
        self._stalled = self._loop.call_later(self._stall_seconds, self.abort)
        if self.upper is not None:
            self.upper.pause_writing()

    def resume_writing(self) -> None:
        """The socket accepts data again."""
        self._read_on()
        if self.upper is not None:
            self.upper.resume_writing()

    # Called by the HTTP protocol, for which this is the transport.

    def write(self, data: bytes) -> None:
        """Encrypt and send, together with everything else written in this turn of the loop."""
        if self._closing or self._below is None:
            return
        if not self._unsealed:
            self._since = self._loop.time()
            self._loop.call_soon(self._seal)
        self._unsealed.append(data)
        self._unsealed_bytes += len(data)
        if self._unsealed_bytes > CHUNK:
            self._seal()

    def close(self) -> None:
        """Send the closing alert and close, once all is sent."""
        if not self._closing and self._below is not None:
            self._seal()
            self._closing = True
            self._settle()
            self._link.close()
            self._flush()
            self._below.close()
            # A peer that does not read must not hold its connection indefinitely.
            self._deadline = self._loop.call_later(self._head_seconds, self.abort)

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._settle()
        if self._below is not None:
            self._below.abort()

    def is_closing(self) -> bool:
        """Whether :meth:`close` was called, or the socket is gone."""
        return self._closing

    def pause_reading(self) -> None:
        """Stop reading from the socket."""
        self._paused = True
        if self._below is not None and not self._closing:
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Continue reading."""
        self._paused = False
        if self._below is not None and not self._closing:
            self._below.resume_reading()
            if self._held:
                self._loop.call_soon(self._deliver_held)

    def set_protocol(self, protocol: Any) -> None:
        """Continue with another protocol: WebSocket after HTTP."""
        self.upper = protocol

    def end_websocket(self) -> None:
        """Close a WebSocket because its server ends; HTTP is left as it is."""
        if self.upper is not None and self.upper.websocket and not self._closing:
            self.upper.shutdown()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """From the socket's transport; ``sslcontext`` is true, because this is TLS."""
        if name == "sslcontext":
            return True
        return default if self._below is None else self._below.get_extra_info(name, default)

    @property
    def idle(self) -> bool:
        """Whether it is between two requests, and no data of the next one has arrived."""
        if self.upper is None or self._closing or self._deadline is not None:
            return False
        cycle = self.upper.cycle
        return cycle is None or bool(cycle.response_complete)

    @property
    def waits(self) -> float:
        """Seconds that it has waited for its client's handshake, or a request's head; 0 if it is not
        waiting.
        """
        waiting = self.upper is None or self._deadline is not None or self.idle
        return self._loop.time() - self._since if waiting and not self._closing else 0.0

    @property
    def has_request(self) -> bool:
        """Whether a complete request head has ever arrived."""
        return self.upper is not None and self.upper.cycle is not None

    def give_way(self) -> None:
        """Close to make room for another client: no received request goes unanswered."""
        if self.idle:
            self.close()
        else:
            self.abort()

    def head_complete(self) -> None:
        """The HTTP protocol has a complete request head: its timeout no longer applies."""
        self._settle()

    def _deliver(self) -> None:
        while not self._closing:
            plain = self._link.read()
            if plain is None:
                self.close()
                return
            if not plain:
                return
            self._await_head()
            if self._paused or self._held:
                self._held.append(plain)  # at most what one read of the socket held
            else:
                self.upper.data_received(plain)

    def _deliver_held(self) -> None:
        """Pass on what arrived during a pause, until the next one: each part may contain many messages."""
        while self._held and not self._paused and not self._closing:
            self.upper.data_received(self._held.popleft())

    def _await_head(self) -> None:
        """Start the timeout for the head of a request."""
        self._break_silence()
        cycle = self.upper.cycle
        if self._deadline is None and (cycle is None or cycle.response_complete):
            self._deadline = self._loop.call_later(self._head_seconds, self.abort)
            self._since = self._loop.time()

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _break_silence(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None

    def _read_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _seal(self) -> None:
        parts, self._unsealed, self._unsealed_bytes = self._unsealed, [], 0
        if parts and not self._closing:
            view = memoryview(b"".join(parts))
            for at in range(0, len(view), CHUNK):
                self._link.write(bytes(view[at : at + CHUNK]))
                self._flush()

    def _flush(self) -> None:
        sealed = self._link.pending()
        if sealed and self._below is not None:
            self._below.write(sealed)
