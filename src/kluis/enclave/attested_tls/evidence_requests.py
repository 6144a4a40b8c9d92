"""ASGI middleware that answers requests for evidence, limits bodies, and identifies the peer.

Each connection has its own instance, so its answers are bound to that connection. The application finds the
peer in ``scope["extensions"]["kluis.peer"]``; :func:`attested_peer` is the dependency that reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from kluis.appraisal import AttestationResult
from kluis.enclave.attested_tls.http import fault
from kluis.enclave.attested_tls.judge import Judge, Peer, attest_self
from kluis.errors import FormatError, KluisError, UsageError
from kluis.formats.kluis.attested_tls import MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, PATH, Answer, Question

try:
    from starlette.requests import HTTPConnection
except ModuleNotFoundError:  # the application is of another framework
    HTTPConnection = Any  # type: ignore[assignment,misc]  # then its type is not used

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Receive, Send], Awaitable[None]]

PEER: Final = "kluis.peer"
VERSIONS: Final = ("1.0", "1.1")
SAID_TWICE: Final = "body: want its length said once, got content-length and transfer-encoding"


def attested_peer(connection: HTTPConnection) -> AttestationResult:
    """The judgement of the client's evidence: for FastAPI's ``Depends``; Starlette's handlers call it.

    Args:
        connection: anything with an ASGI ``scope``, such as ``starlette.requests.Request``.

    Raises:
        starlette.exceptions.HTTPException: 403, the client presented no valid evidence, or did so too long
            ago.
    """
    peer = connection.scope.get("extensions", {}).get(PEER)
    # read once: it can expire at any moment
    if isinstance(peer, Peer) and (result := peer.result) is not None:
        return result
    from starlette.exceptions import HTTPException

    # Otherwise a client that trusts this end for longer would be refused on a connection that it keeps.
    raise HTTPException(
        403,
        "this needs a client that has attested itself, and not too long ago",
        headers={"Connection": "close"},
    )


class EvidenceRequests:
    """The middleware of one connection.

    Args:
        inner: the application, which gets all other requests.
        peer: the other end of the connection.
        judge: of clients that attest themselves; None: clients are not attested.
        max_body_bytes: of a request.
        stall_seconds: for the next piece of a body.
        slowest_body: minimum bytes a second of a body, over the time beyond ``stall_seconds``.
    """

    def __init__(
        self,
        inner: Application,
        peer: Peer,
        judge: Judge | None,
        *,
        max_body_bytes: int,
        stall_seconds: float,
        slowest_body: int,
    ) -> None:
        self._inner = inner
        self._peer = peer
        self._judge = judge
        self._most = max_body_bytes
        self._stall_seconds = stall_seconds
        self._slowest = slowest_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket."""
        if scope["type"] == "websocket":
            scope["extensions"] = {**scope.get("extensions", {}), PEER: self._peer}
            await self._inner(scope, receive, send)
            return
        bounded = _Bounded(receive, send, self._most, self._stall_seconds, self._slowest)
        headers = dict(scope["headers"])
        if scope["http_version"] not in VERSIONS:
            got = fault("unsupported", f"request: want HTTP/1.1, got HTTP/{scope['http_version']}")
            await _answer(send, 505, got, (b"connection", b"close"))
            return
        if b"transfer-encoding" in headers and b"content-length" in headers:
            # RFC 9112, "Message Body Length": an intermediary may have read another end of this request.
            await _answer(send, 400, fault("malformed", SAID_TWICE), (b"connection", b"close"))
            return
        if scope["path"] == PATH:
            try:
                await self._evidence(scope["method"], bounded.receive, send)
            except RefusedBody as refused:
                await _refuse(send, refused)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 15 or int(length) > self._most:
            await _answer(send, 413, fault("too_large", f"body: want at most {self._most} bytes"))
            return
        scope["extensions"] = {**scope.get("extensions", {}), PEER: self._peer}
        try:
            await self._inner(scope, bounded.receive, bounded.send)
        except RefusedBody:
            if bounded.started:
                raise
        if bounded.refused and not bounded.started:
            await _refuse(send, bounded.refused)

    async def _evidence(self, method: str, receive: Receive, send: Send) -> None:
        try:
            if method == "POST":
                body = await _body(receive, MAX_QUESTION_BYTES)
                nonce = Question.parse(body).nonce
                challenge = self._peer.challenge() if self._judge else b""
                made = await asyncio.to_thread(attest_self, self._peer.link, nonce, challenge)
                await _answer(send, 200, made.encode())
            elif method == "PUT":
                if self._judge is None:
                    raise UsageError("evidence: this server requests no evidence from its clients")
                presented = Answer.parse(await _body(receive, MAX_ANSWER_BYTES))
                await asyncio.to_thread(self._peer.present, presented, self._judge)
                await _answer(send, 204, b"")
            else:
                await _answer(send, 405, fault("usage", "want POST or PUT"))
        except KluisError as error:
            await _answer(send, error.http_status, fault(error.code, error.message))


class RefusedBody(Exception):
    """The body exceeds its limit, or stalls; do not catch it, so that the middleware can answer.

    Attributes:
        status: of the answer.
        code: of the answer's error.
        message: of the answer's error.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class _Bounded:
    """Counts a request's body, limits its time, and records whether its answer has begun."""

    def __init__(self, receive: Receive, send: Send, most: int, stall_seconds: float, slowest: int) -> None:
        self._receive = receive
        self._send = send
        self._most = self._left = most
        self._stall_seconds = stall_seconds
        self._slowest = slowest
        self._waited = 0.0
        self._whole = False
        self.refused: RefusedBody | None = None
        self.started = False

    async def receive(self) -> Message:
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with asyncio.timeout(self._patience()):
                message = await self._receive()
        except TimeoutError:
            self.refused = RefusedBody(408, "stalled", "body: no more of it came, or too slowly")
            raise self.refused from None
        self._waited += now() - began
        self._whole = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.refused = RefusedBody(413, "too_large", f"body: want at most {self._most} bytes")
            raise self.refused
        return message

    def _patience(self) -> float | None:
        """Seconds to wait for the next piece; no limit for the end of the connection, after the last one."""
        if self._whole:
            return None
        earned = (self._most - self._left) / self._slowest
        return max(0.0, min(self._stall_seconds, self._stall_seconds + earned - self._waited))

    async def send(self, message: Message) -> None:
        if self.refused and not self.started:
            return  # a framework's own page for what it takes for an error of the application
        self.started = True
        await self._send(message)


async def _body(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise FormatError("evidence request: cut short")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise FormatError(f"evidence request: want at most {most} bytes", code="too_large")
        if not message.get("more_body", False):
            return b"".join(parts)


async def _refuse(send: Send, refused: RefusedBody) -> None:
    await _answer(send, refused.status, fault(refused.code, refused.message))


async def _answer(send: Send, status: int, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"), *more]
    if body:
        headers.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
