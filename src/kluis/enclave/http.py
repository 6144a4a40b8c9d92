"""HTTP/1.1 inside: uvicorn's, over h11; what is no HTTP is refused in the shape of every other refusal.

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

from kluis.formats import jcs

__all__ = ["Http", "fault"]

MOST_HEAD: Final = 16 << 10
MOST_MESSAGE: Final = 200
# Scheme, authority, and what an origin-form has; RFC 3986, "Syntax Components".
ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
CODES: Final = {431: "too_large", 501: "unsupported"}


def fault(code: str, message: str) -> bytes:
    """The body of a refusal: JSON, as the clients of our services read it."""
    return jcs.dumps({"error": {"code": code, "message": message}})


class Http(H11Protocol):
    """One connection's HTTP."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _Events(h11.SERVER, config.h11_max_incomplete_event_size or MOST_HEAD)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP/1.1, and close: where it ends, and another request begins, nobody knows."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whoever answers it now speaks to nobody
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
            asked = self.conn.our_state is h11.SEND_RESPONSE and self.scope["method"]
            for event in (
                h11.Response(status_code=hint, headers=headers, reason=STATUS_PHRASES[hint]),
                h11.Data(data=b"" if asked == "HEAD" else body),
                h11.EndOfMessage(),
            ):
                self.transport.write(send(event) or b"")
        self.transport.close()


class _Events(h11.Connection):
    """A client's events, each request as one to an origin server."""

    def next_event(self) -> Any:
        """The next one; a target in absolute form is read as its host and its path."""
        event = super().next_event()
        if isinstance(event, h11.Request) and (absolute := ABSOLUTE.fullmatch(event.target)):
            # RFC 9112, "absolute-form": what the Host header says besides is not looked at.
            others = [(name, value) for name, value in event.headers if name != b"host"]
            host, rest = absolute[1], absolute[2] or b""
            return h11.Request(
                method=event.method,
                target=rest if rest.startswith(b"/") else b"/" + rest,
                headers=[(b"host", host), *others],
                http_version=event.http_version,
            )
        return event
