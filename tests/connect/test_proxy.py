"""The proxy itself: what it leaves open, how much it holds for a client, and what ends it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from kluis.connect.admission import Admission
from kluis.connect.client import Client, State
from kluis.connect.enclave import Enclave
from kluis.connect.opening import Opened
from kluis.enclave.attested_tls.judge import Judge, elapsed
from tests.connect.running import PATIENT, SECONDS, Running, running
from tests.enclave.hosted.serving import Served


class Slow:
    """Opens a connection once the test permits it."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.begun, self.permitted = threading.Event(), threading.Event()

    def open(self) -> Opened:
        self.begun.set()
        assert self.permitted.wait(SECONDS)
        return Opened(self.end, None, None, elapsed())  # type: ignore[arg-type]

    def stop(self) -> None:
        self.permitted.set()


def test_a_connection_that_nobody_waits_for_is_closed() -> None:
    """A client that hangs up while its connection to the enclave opens leaves no socket."""

    async def hang_up(opener: Slow) -> None:
        enclave = Enclave(opener, 60.0, PATIENT, print)  # type: ignore[arg-type]
        request = asyncio.create_task(enclave.connect())
        await asyncio.to_thread(opener.begun.wait, SECONDS)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        opener.permitted.set()
        enclave.close()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(SECONDS)
        asyncio.run(hang_up(Slow(ours)))
        assert theirs.recv(1) == b""


class Line:
    """A connection to the enclave that records whether it is read from."""

    paused = False

    def lend(self, user: Any) -> None: ...

    def write(self, plain: bytes) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True


class Home:
    """A proxy with one connection."""

    limits, draining = PATIENT, False
    admission = Admission("127.0.0.1:1", hosts=frozenset(), origins=frozenset(), token=None)

    def __init__(self) -> None:
        self.line = Line()
        self.enclave = self

    def idle(self) -> Line:
        return self.line

    def join(self, client: Client) -> bool:
        return True


@pytest.mark.parametrize("stalled", [False, True])
def test_a_request_of_a_client_that_does_not_read(stalled: bool) -> None:
    """Its answer stays with the enclave: the answers before it are unread already."""

    async def send() -> Line:
        home = Home()
        client = Client(home)  # type: ignore[arg-type]
        client.connection_made(asyncio.Transport())
        if stalled:
            client.pause_writing()
        client.data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.state is State.ANSWER
        return home.line

    assert asyncio.run(send()).paused is stalled


def test_it_ends_when_one_of_its_tasks_does(
    served: Served, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the task that ends what takes too long, it does not go on, and the error is not lost."""

    def look(now: float) -> None:
        raise RuntimeError("the task ended")

    def wait(proxy: Running) -> None:
        # Only of this proxy: others of the session run in this process.
        monkeypatch.setattr(proxy.proxy.enclave, "look", look)
        until = time.monotonic() + SECONDS
        while not proxy.loop.is_closed():
            assert time.monotonic() < until
            time.sleep(0.02)

    with pytest.raises(RuntimeError, match="the task ended"), running(judge, served.port) as proxy:
        wait(proxy)
