"""HTTP/1.1 inside: uvicorn's, over h11; what is no HTTP is refused in the shape of every other refusal.

Spec: RFC 9112; RFC 9110, "Status Codes".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from kluis.formats import jcs

__all__ = ["Http", "fault"]

MOST_MESSAGE: Final = 200
CODES: Final = {431: "too_large", 501: "unsupported"}


def fault(code: str, message: str) -> bytes:
    """The body of a refusal: JSON, as the clients of our services read it."""
    return jcs.dumps({"error": {"code": code, "message": message}})


class Http(H11Protocol):
    """One connection's HTTP."""

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
            for event in (
                h11.Response(status_code=hint, headers=headers, reason=STATUS_PHRASES[hint]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(send(event) or b"")
        self.transport.close()
