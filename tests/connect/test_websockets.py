"""WebSockets go through the proxy into the enclave."""

from __future__ import annotations

import os
import select
import socket
import time
from pathlib import Path

import pytest

from kluis.testing.rehearsal import RehearsalPlatform
from tests.connect.chatting import Chat, Ended, chat
from tests.connect.running import SECONDS, Running, parsed
from tests.enclave.hosted.serving import Served

APP = Path(__file__).parent / "hosted" / "app.py"


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_messages(proxy: Running) -> None:
    """Text and bytes of any size come back as they were sent, in their order."""
    with chat(proxy.port, "/socket") as made:
        assert made.accepted is not None
        assert made.accepted.subprotocol == "echo"
        assert made.accepted.extensions == []  # no compression
        for count in range(100):
            made.say(f"message {count}")
        assert [made.hear() for _ in range(100)] == [f"message {count}" for count in range(100)]
        for size in (0, 1, 125, 126, 65535, 65536, 900_000):
            data = os.urandom(size)
            made.say(data)
            assert made.hear() == data


def test_a_close_has_its_code(proxy: Running) -> None:
    """The application's code and reason reach the client."""
    with chat(proxy.port, "/socket") as made:
        made.say("close")
        with pytest.raises(Ended) as ended:
            made.hear()
    assert (ended.value.code, ended.value.reason) == (4001, "as you wish")


def test_a_message_that_is_too_long(proxy: Running) -> None:
    """A message above the bound ends its WebSocket, with the code for that."""
    with chat(proxy.port, "/socket") as made:
        made.say(bytes((1 << 20) + 1))
        with pytest.raises(Ended) as ended:
            made.hear()
    assert ended.value.code == 1009


def test_an_application_that_refuses(proxy: Running) -> None:
    """A refusal is an answer of HTTP."""
    with pytest.raises(Ended) as ended, chat(proxy.port, "/refused"):
        pass
    assert ended.value.code == 403


def test_no_websocket_to_the_evidence(proxy: Running) -> None:
    """The address of evidence is no application's."""
    with pytest.raises(Ended) as ended, chat(proxy.port, "/.well-known/kluis/evidence"):
        pass
    assert ended.value.code == 404


def test_other_upgrades_are_requests(proxy: Running) -> None:
    """A request for another protocol is answered as the request that it also is."""
    said = proxy.exchange(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    status, fields, body = parsed(said)
    assert (status, body) == (200, b"hello from inside")
    assert "upgrade" not in fields


def test_a_client_that_hangs_up(proxy: Running, served: Served) -> None:
    """The application hears of it."""
    with chat(proxy.port, "/socket") as made:
        made.say("here")
        assert made.hear() == "here"
        before = served.enclave.told().count("socket closed")
    until = time.monotonic() + SECONDS
    while served.enclave.told().count("socket closed") == before:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_pings_of_a_client_that_never_reads(served: Served, proxy: Running) -> None:
    """Answers to pings do not fill the enclave's memory: its client is not read from until it reads."""
    with chat(proxy.port, "/socket") as made:
        many, sent = b"".join(made.ping() for _ in range(10_000)), 0
        made.end.setblocking(False)
        while sent < 256 << 20 and select.select([], [made.end], [], 2.0)[1]:
            sent += made.end.send(many)
        assert sent < 64 << 20


def test_a_drain_says_goodbye(rehearsal_platform: RehearsalPlatform) -> None:
    """An enclave that drains closes its WebSockets with the code for that, and its server ends."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        rehearsal_platform.launch(APP, sockets={"listen:web": listener}) as enclave,
    ):
        served = Served(enclave, listener)
        made = Chat(served.plain_tls())
        with made.end:
            made.open("/socket")
            enclave.drain(60.0)
            with pytest.raises(Ended) as ended:
                made.hear()
            assert ended.value.code == 1012
        served.ended.result(SECONDS)


def test_both_at_once(proxy: Running) -> None:
    """Many WebSockets are open at once, next to requests."""
    with chat(proxy.port, "/socket") as one, chat(proxy.port, "/socket") as two:
        for count in range(20):
            _swap(one, f"one {count}")
            _swap(two, f"two {count}")
            assert b"hello" in proxy.exchange(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )


def _swap(made: Chat, text: str) -> None:
    made.say(text)
    assert made.hear() == text
