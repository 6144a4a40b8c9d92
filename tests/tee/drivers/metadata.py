"""A metadata service on loopback: answers each connection with bytes that a test chooses."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from kluis.tee.drivers.imds import Imds

Answer = Callable[[bytes], bytes]


def ok(body: bytes, *fields: str) -> bytes:
    """A usual answer."""
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.contextmanager
def serving(answer: Answer, *, seconds: float = 30.0) -> Iterator[Imds]:
    """A client of a service that answers so; an empty answer leaves the connection open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                held.append(connection)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                if given := answer(request):
                    connection.sendall(given)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield Imds(*listener.getsockname()[:2], seconds=seconds)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()
