"""WebSocket inside: uvicorn's protocol over wsproto, within bounds.

A message has a largest size, and a client that does not read is not read from. There is no compression: a
small message could become a large one, and a message's size would depend on secrets in it. An image carries
this module if its application names ``asgi.WebSockets``. Spec: RFC 6455.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from uvicorn import Config
from uvicorn.server import ServerState

from kluis.enclave.attested_tls.evidence_requests import Application
from kluis.errors import UsageError
from kluis.frozen import frozen

try:
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
except ModuleNotFoundError:
    raise UsageError(
        "websockets: want the package wsproto in the image, got none",
        hint='add "wsproto>=1.2" to requirements in kluis.toml',
    ) from None


@frozen(kw_only=True)
class WebSockets:
    """Serve the ASGI scope ``websocket``: for ``asgi.host(app, web, websockets=asgi.WebSockets())``.

    Attributes:
        message_bytes: of one message; a longer one ends its WebSocket with code 1009.
        ping_seconds: between two pings; a client that does not answer one within that time is disconnected.
    """

    message_bytes: int = 1 << 20
    ping_seconds: float = 20.0

    @property
    def settings(self) -> dict[str, Any]:
        """What uvicorn's configuration has for them."""
        return {
            "ws_max_size": self.message_bytes,
            "ws_ping_interval": self.ping_seconds,
            "ws_ping_timeout": self.ping_seconds,
            "ws_per_message_deflate": False,
        }

    def protocol(self, application: Application) -> Any:
        """Return what makes the protocol of one connection, as uvicorn calls it."""

        def make(*, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> WebSocket:
            made = WebSocket(config, server_state, app_state)
            made.app = cast("Any", application)
            return made

        return make


@frozen
class Busy:
    """The state of a connection that never waits for a request."""

    response_complete: bool = False


class WebSocket(WSProtocol):
    """One WebSocket.

    Attributes:
        websocket: True: it is no longer HTTP.
        cycle: never complete, until the connection ends.
    """

    websocket: ClassVar[bool] = True
    cycle: ClassVar[Busy] = Busy()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read: its pings would fill memory with our answers."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the client again, if the application wants more."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> Any:
        """The next message; the one after it is read once the application took all that arrived."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if self.writable.is_set():
                self.transport.resume_reading()
        return message
