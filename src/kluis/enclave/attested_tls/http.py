"""HTTP/1.1 inside: uvicorn's, over h11; refusals of malformed HTTP have the form of all other refusals.

Spec: RFC 9112; RFC 9110, "Status Codes".
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from kluis.formats.encoding import jcs

MOST_HEAD: Final = 16 << 10
MOST_HEADERS: Final = 100
"""Fields in a head, and in a trailer."""
FRAMING_EACH: Final = 16
"""Bytes of chunk sizes and line ends allowed for each byte of a body, beyond a head's worth."""
MOST_MESSAGE: Final = 200
# Scheme, authority, and the rest of the origin form; RFC 3986, "Syntax Components".
ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
CODES: Final = {431: "too_large", 501: "unsupported"}


def fault(code: str, message: str) -> bytes:
    """The body of a refusal: JSON, in the form that our services' clients read."""
    return jcs.dumps({"error": {"code": code, "message": message}})


class Http(H11Protocol):
    """One connection's HTTP.

    Attributes:
        websocket: False: it is HTTP.
    """

    websocket = False

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._events = _Events(h11.SERVER, config.h11_max_incomplete_event_size or MOST_HEAD)
        self.conn = self._events

    def send_400_response(self, msg: str) -> None:
        """Refuse malformed HTTP/1.1, and close: the start of the next request cannot be determined."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # an answer sent now has no receiver
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            error = sys.exception()
            hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
            body = fault(
                CODES.get(hint, "malformed"),
                f"request: want HTTP/1.1, got another: {str(error)[:MOST_MESSAGE]!a}",
            )
            headers = [
                ("content-type", "application/json; charset=utf-8"),
                ("content-length", str(len(body))),
                ("cache-control", "no-store"),
                ("connection", "close"),
            ]
            send: Callable[[h11.Event], bytes | None] = self.conn.send
            for event in (
                h11.Response(status_code=hint, headers=headers, reason=STATUS_PHRASES[hint]),
                h11.Data(data=b"" if self._events.method == b"HEAD" else body),
                h11.EndOfMessage(),
            ):
                self.transport.write(send(event) or b"")
        self.transport.close()


class _Events(h11.Connection):
    """A client's events, each request in the form for an origin server.

    Attributes:
        method: of the last request.

    h11 limits what it waits for, but not what arrived completely at once. So the bytes that each event took
    from its buffer are counted here: a head, and everything in a body that is not data, such as chunk sizes,
    extensions and trailers.
    """

    def __init__(self, role: type[h11.CLIENT] | type[h11.SERVER], most_head: int) -> None:
        super().__init__(role, most_head)
        self.method = b""
        self._most_head = most_head
        self._framing_left = 0

    def next_event(self) -> Any:
        """Return the next event; a target in absolute form is split into host and path.

        Raises:
            h11.RemoteProtocolError: not HTTP/1.1, or above the limits.
        """
        size = len(self._receive_buffer)
        event = super().next_event()
        took = size - len(self._receive_buffer)
        if isinstance(event, h11.Request):
            self.method = event.method
            self._framing_left = self._most_head
            _hold(took <= self._most_head, f"head: want at most {self._most_head} bytes, got {took}")
            _hold_count(event.headers)
        else:
            if isinstance(event, h11.Data):  # a chunk of one byte is fair, an extension of it is not
                took -= len(event.data) * (1 + FRAMING_EACH)
            self._framing_left = min(self._framing_left - took, self._most_head)
            _hold(self._framing_left >= 0, f"chunks: want at most {self._most_head} bytes besides their data")
            if isinstance(event, h11.EndOfMessage):
                _hold_count(event.headers)
        if isinstance(event, h11.Request) and (absolute := ABSOLUTE.fullmatch(event.target)):
            # RFC 9112, "absolute-form": a Host header is ignored.
            others = [(name, value) for name, value in event.headers if name != b"host"]
            host, rest = absolute[1], absolute[2] or b""
            return h11.Request(
                method=event.method,
                target=rest if rest.startswith(b"/") else b"/" + rest,
                headers=[(b"host", host), *others],
                http_version=event.http_version,
            )
        return event


def _hold_count(headers: Any) -> None:
    _hold(len(headers) <= MOST_HEADERS, f"head: want at most {MOST_HEADERS} fields, got {len(headers)}")


def _hold(holds: bool, problem: str) -> None:
    if not holds:
        raise h11.RemoteProtocolError(f"{problem}: too long", error_status_hint=431)
