"""A client of WebSocket over a plain socket, by wsproto."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate


class Ended(Exception):
    """The other end closed, with a code; or it refused, with a status."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Chat:
    """One WebSocket."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.accepted: AcceptConnection | None = None
        self._events: Iterator[Event] = iter(())

    def open(self, target: str, host: str = "localhost", **more: str) -> None:
        """Do the handshake."""
        request = Request(
            host=host,
            target=target,
            subprotocols=["other", "echo"],
            extensions=[PerMessageDeflate()],
            extra_headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()],
        )
        self.end.sendall(self.protocol.send(request))
        event = self.event()
        if isinstance(event, RejectConnection):
            raise Ended(event.status_code)
        assert isinstance(event, AcceptConnection), event
        self.accepted = event

    def say(self, data: str | bytes) -> None:
        """Send one message."""
        self.end.sendall(self.protocol.send(Message(data=data)))

    def ping(self) -> bytes:
        """A ping, to send."""
        return self.protocol.send(Ping(payload=b"x" * 100))

    def hear(self) -> str | bytes:
        """Receive one message."""
        parts: list[str | bytes] = []
        while True:
            event = self.event()
            if isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                if event.message_finished:
                    empty: str | bytes = "" if isinstance(event, TextMessage) else b""
                    return empty.join(parts)  # type: ignore[arg-type]

    def event(self) -> Event:
        """The next event that is not the other end's farewell."""
        while True:
            for event in self._events:
                if isinstance(event, CloseConnection):
                    raise Ended(event.code, event.reason or "")
                return event
            data = self.end.recv(1 << 16)
            if not data:
                raise Ended(1006)
            self.protocol.receive_data(data)
            self._events = self.protocol.events()


@contextmanager
def chat(port: int, target: str, host: str = "localhost", **more: str) -> Iterator[Chat]:
    """A WebSocket through a proxy on a port."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as end:
        made = Chat(end)
        made.open(target, host, **more)
        yield made
