"""Clients that take all of a service's connections, and do nothing with them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kluis.enclave.asgi import Limits, Server
from tests.enclave.hosted.serving import plain_tls

PLACES = 8
ENDLESS = Limits(
    connections=PLACES, handshake_seconds=3600, head_seconds=3600, stall_seconds=3600, idle_seconds=3600
)
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.fixture
def enough() -> threading.Event:
    """Set once the service's slow requests are to be answered."""
    return threading.Event()


@pytest.fixture
def port(enough: threading.Event) -> Iterator[int]:
    """A service of eight places, whose patience no test outlasts."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError(scope["type"])
        while scope["path"] == "/slow" and not enough.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    server = Server(application, limits=ENDLESS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(listener)))
        thread.start()
        yield listener.getsockname()[1]
        server.drain(0)
        thread.join()


def silent(port: int) -> socket.socket:
    """One that never shakes hands."""
    return socket.create_connection(("127.0.0.1", port), timeout=120)


def begun(port: int) -> socket.socket:
    """One that begins a request."""
    made = plain_tls(port)
    made.sendall(REQUEST[:-2])
    return made


def kept(port: int) -> socket.socket:
    """One that had an answer, and keeps its connection."""
    made = plain_tls(port)
    ask(made)
    return made


def ask(made: socket.socket) -> None:
    """A request and its answer."""
    made.sendall(REQUEST)
    assert made.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("take", [silent, plain_tls, begun, kept])
def test_places_that_are_kept_for_nothing(
    port: int, enough: threading.Event, take: Callable[[int], socket.socket]
) -> None:
    """Who keeps a place for nothing gives it to who waits for one; a request that runs is answered."""
    with contextlib.ExitStack() as held:
        running = held.enter_context(plain_tls(port))
        running.sendall(REQUEST.replace(b"/ ", b"/slow "))
        for _ in range(PLACES - 1):
            held.enter_context(take(port))
        for _ in range(2 * PLACES if take is silent else 0):
            held.enter_context(silent(port))
        held.enter_context(kept(port))
        enough.set()
        assert running.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_place_is_kept_while_nobody_waits(port: int) -> None:
    """Connections that are kept stay, as many as there are places."""
    with contextlib.ExitStack() as held:
        clients = [held.enter_context(kept(port)) for _ in range(PLACES)]
        time.sleep(2)
        for one in clients:
            ask(one)
