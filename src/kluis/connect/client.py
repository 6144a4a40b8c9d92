"""One client of the proxy: its requests, one after the other, each over a verified connection.

A request's head is read, checked and written for the enclave. Its body, and the response, go through in the
pieces in which they arrive: the receiver's pace is the sender's. After ``101 Switching Protocols`` for a
WebSocket the bytes go through as they are, in both directions.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Final, Protocol

from kluis.connect import answers
from kluis.connect.admission import Admission, RefusedError
from kluis.connect.bodies import Body
from kluis.connect.enclave import Enclave
from kluis.connect.heads import END, MalformedError, Request, read_request
from kluis.connect.limits import Limits
from kluis.connect.responses import Reply
from kluis.connect.upstream import Upstream
from kluis.errors import KluisError

REPEATABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class State(enum.Enum):
    """What a client's next bytes are."""

    HEAD = enum.auto()
    OPENING = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    TUNNEL = enum.auto()
    ENDED = enum.auto()


class Home(Protocol):
    """What a client needs of its proxy."""

    limits: Limits
    draining: bool

    @property
    def enclave(self) -> Enclave:
        """That requests go to."""
        ...

    @property
    def admission(self) -> Admission:
        """Which requests do."""
        ...

    def join(self, client: Client, /) -> bool:
        """Count a new client; False if there are too many."""
        ...

    def leave(self, client: Client, /) -> None:
        """Forget a client that is gone."""


class Client(asyncio.Protocol):
    """A client's connection.

    Attributes:
        state: what its next bytes are.
        since: since when it is in this state, by the loop's clock.
        stalled: since when it has not read what was sent; None if it reads.
        admitted: whether one of its requests was.

    Args:
        proxy: that it is a client of.
    """

    def __init__(self, proxy: Home) -> None:
        self.state = State.HEAD
        self.stalled: float | None = None
        self.admitted = False
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self.since = self._loop.time()
        self._transport: asyncio.Transport
        self._held = b""
        self._request: Request | None = None
        self._head = b""
        self._body = _EMPTY
        self._reply: Reply | None = None
        self._upstream: Upstream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._paused = False

    # Called by the socket's transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client's connection, or answer that there are too many."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy: a stream socket has no other
        self._transport = transport
        if not self._proxy.join(self):
            most = self._proxy.limits.connections
            self._refuse(
                RefusedError(
                    503, f"connections: want at most {most} of clients, got more", code="connect_full"
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what it waited for is given up."""
        self.state = State.ENDED
        self._proxy.leave(self)
        if self._opening is not None:
            self._opening.cancel()
        self._drop()

    def data_received(self, data: bytes) -> None:
        """Read what the client sent."""
        if self.state is State.BODY:
            self._send_body(data)
        elif self.state is State.TUNNEL:
            if self._upstream is not None:
                self._upstream.write(data)
        elif self.state is State.HEAD:
            self._read_head(data)
        elif self.state is not State.ENDED:
            self._held += data  # at most what one read of the socket held
            self._pause()

    def pause_writing(self) -> None:
        """The client reads slowly: the enclave waits."""
        self.stalled = self._loop.time()
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        """The client reads on."""
        self.stalled = None
        if self._upstream is not None:
            self._upstream.resume_reading()

    # Called by the connection to the enclave.

    def response_received(self, plain: bytes) -> None:
        """Pass on bytes of the response."""
        if self.state is State.TUNNEL:
            self._transport.write(plain)
            return
        reply = self._reply
        if reply is None:
            self._drop()
            return
        try:
            written = reply.read(plain)
        except MalformedError as fault:
            self._refuse(MalformedError(f"response: {fault.message}", 502))
            return
        if written:
            self._transport.write(written)
        if reply.switched:
            self._tunnel()
        elif reply.done:
            self._finish()

    def cut(self, closed: bool) -> None:
        """The enclave's connection ended under a request."""
        upstream, self._upstream = self._upstream, None
        if self.state is State.TUNNEL:
            self._end()
            return
        reply = self._reply
        if reply is not None and reply.begun:
            if closed and (last := reply.finish()) is not None:
                self._transport.write(last)
                self._end()
            else:  # cut off, as the response was
                self._transport.abort()
            return
        if self._again(upstream):
            return
        self._refuse(
            RefusedError(502, "enclave: it closed the connection before it answered", code="connect_cut")
        )

    def upstream_full(self, full: bool) -> None:
        """The enclave reads slowly: the client waits; or it reads on."""
        if full:
            self._pause()
        elif self.state in (State.BODY, State.TUNNEL):
            self._resume()

    # Called by the proxy.

    @property
    def between_requests(self) -> bool:
        """Whether it has no request under way."""
        return self.state is State.HEAD and not self._held

    @property
    def upstream(self) -> Upstream | None:
        """The enclave's connection that it uses."""
        return self._upstream

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    def close(self) -> None:
        """End it, once what was written is sent."""
        self._end()

    def late(self) -> None:
        """End it, because its request's head does not come to an end."""
        self._refuse(RefusedError(408, "head: no more of it came, or too slowly", code="connect_slow"))

    # Requests.

    def _read_head(self, data: bytes) -> None:
        """Read a head, once it is whole, and send it on, or refuse it."""
        if not self._held:
            self.since = self._loop.time()
        else:
            data = self._held + data
        most = self._proxy.limits.head_bytes
        end = data.find(END, 0, most)
        if end < 0:
            self._held = data
            if len(data) >= most:
                self._refuse(MalformedError(f"head: want at most {most} bytes, got more", 431))
            elif data.startswith(b"\r\n"):
                self._refuse(MalformedError("request line: want METHOD TARGET HTTP/1.1, got ''"))
            return
        self._held = b""
        try:
            request = read_request(data[:end])
            self._head = self._proxy.admission.admit(request)
            self.admitted = True
        except (MalformedError, RefusedError) as fault:
            self._refuse(fault, body=not data.startswith(b"HEAD "))
            return
        fields = request.fields
        self._request = request
        self._body = Body(
            None if fields.chunked else fields.length or 0, chunked=fields.chunked, as_chunks=fields.chunked
        )
        upstream = self._proxy.enclave.idle()
        rest = data[end + len(END) :]
        if upstream is not None:
            self._send(request, upstream, rest)
            return
        self.state = State.OPENING
        self._held = rest
        self._pause()
        self._opening = self._loop.create_task(self._open(request))

    async def _open(self, request: Request) -> None:
        """Wait for a verified connection, then send the request over it."""
        try:
            upstream = await self._proxy.enclave.connect()
        except KluisError as fault:
            self._opening = None
            self._refuse(fault)
            return
        self._opening = None
        if self.state is not State.OPENING:
            self._proxy.enclave.give_back(upstream)
            return
        data, self._held = self._held, b""
        self._resume()
        self._send(request, upstream, data)

    def _send(self, request: Request, upstream: Upstream, rest: bytes) -> None:
        """Send the head, and what has arrived of the body."""
        self._upstream = upstream
        upstream.lend(self)
        if self.stalled is not None:  # it sent this request, and does not read the answers to those before it
            upstream.pause_reading()
        self._reply = Reply(request, self._proxy.admission)
        if not self._body.done:
            self.state = State.BODY
            self._send_body(rest, self._head)
        else:
            self.state = State.ANSWER
            upstream.write(self._head)
            self._held = rest

    def _send_body(self, data: bytes, before: bytes = b"") -> None:
        """Send more of the body, with what goes before it."""
        try:
            piece, rest = self._body.read(data) if data else (b"", b"")
        except MalformedError as fault:
            self._refuse(fault)
            return
        if self._body.done:
            self.state = State.ANSWER
            self._held = rest
        if before:
            piece = before + piece
        if piece and self._upstream is not None:
            self._upstream.write(piece)

    def _again(self, upstream: Upstream | None) -> bool:
        """Send a request once more that an idle connection lost, if that cannot repeat anything.

        RFC 9110, "Idempotent Methods": the server may close an idle connection at any time.
        """
        request = self._request
        if (
            request is None
            or upstream is None
            or upstream.fresh
            or request.method not in REPEATABLE
            or self.state is not State.ANSWER
            or request.fields.length
            or request.fields.chunked
        ):
            return False
        self.state = State.OPENING
        self._opening = self._loop.create_task(self._open(request))
        return True

    def _finish(self) -> None:
        """End an exchange; the client's next request may follow."""
        upstream, self._upstream = self._upstream, None
        request, reply = self._request, self._reply
        self._reply = None
        whole = self.state is State.ANSWER
        if upstream is not None:
            if whole and reply is not None and reply.persistent:
                self._proxy.enclave.give_back(upstream)
            else:
                upstream.lend(None)
                upstream.close()
        if not whole or request is None or not request.persistent or self._proxy.draining:
            self._end()
            return
        self.state = State.HEAD
        self._request = None
        self.since = self._loop.time()
        data, self._held = self._held, b""
        self._resume()
        if data:
            self._read_head(data)

    def _tunnel(self) -> None:
        """Pass on bytes as they are, from here on."""
        self.state = State.TUNNEL
        self._reply = None
        data, self._held = self._held, b""
        self._resume()
        if data and self._upstream is not None:
            self._upstream.write(data)

    # Ends.

    def _refuse(self, fault: KluisError, *, body: bool | None = None) -> None:
        """Answer with an error, if no answer has begun, and end."""
        if body is None:
            body = self._request is None or self._request.method != b"HEAD"
        begun = self._reply is not None and self._reply.begun
        self._drop()
        if begun:
            self._transport.abort()
            return
        self._transport.write(answers.of_fault(fault, body=body))
        self._end()

    def _end(self) -> None:
        self.state = State.ENDED
        self._drop()
        if not self._transport.is_closing():
            self._transport.close()
            self.since = self._loop.time()

    def _drop(self) -> None:
        """Give up the enclave's connection: it may be in the middle of a message."""
        upstream, self._upstream = self._upstream, None
        self._reply = None
        if upstream is not None:
            upstream.lend(None)
            upstream.abort()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()


_EMPTY: Final = Body(0, chunked=False, as_chunks=False)
