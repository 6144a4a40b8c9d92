"""A peer that is not an enclave gets no data from a client, and does not block it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from kluis.enclave.attested_tls.client import AsyncAttestedTransport, AttestedTransport
from kluis.enclave.attested_tls.judge import Judge
from kluis.enclave.attested_tls.link import Link, ServerKey
from kluis.errors import AuthenticityError, KluisError
from kluis.formats.kluis.attested_tls import Role
from tests.adversary.test_relay import hear, shake
from tests.enclave.hosted.policies import rehearsed

Say = Callable[[bytes], None]
PATIENCE = 0.2


def _nobody() -> tuple[()]:
    raise AssertionError("judged")


JUDGE = Judge(rehearsed(), _nobody)  # type: ignore[arg-type]


@contextlib.contextmanager
def answering(answer: Callable[[Say], None]) -> Iterator[str]:
    """A server that is not an enclave, and its answer to a request for evidence."""
    key = ServerKey()

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        link = Link(key.context, Role.SERVER)

        def say(said: bytes) -> None:
            link.write(said)
            sock.sendall(link.pending())

        with sock, contextlib.suppress(OSError, KluisError):
            shake(sock, link)
            hear(sock, link)
            answer(say)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def asked(url: str, patience: float) -> None:
    """One request."""
    with httpx.Client(transport=AttestedTransport(JUDGE), timeout=patience) as client:
        client.get(url)


def asked_async(url: str, patience: float) -> None:
    """One request, without a thread that waits."""

    async def ask() -> None:
        async with httpx.AsyncClient(transport=AsyncAttestedTransport(JUDGE), timeout=patience) as client:
            await client.get(url)

    asyncio.run(ask())


def trickle(said: bytes) -> Callable[[Say], None]:
    """Say something again and again, until the client hangs up: two minutes is a hang."""

    def answer(say: Say) -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            say(said)
            time.sleep(PATIENCE / 4)

    return answer


@pytest.mark.parametrize("said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"H"])
@pytest.mark.parametrize("ask", [asked, asked_async])
def test_one_that_comes_to_no_end(ask: Callable[[str, float], None], said: bytes) -> None:
    """What trickles, each time within the client's patience, wears it out all the same."""
    with answering(trickle(said)) as url, pytest.raises(httpx.TimeoutException):
        ask(url, PATIENCE)


@pytest.mark.parametrize("ask", [asked, asked_async])
def test_one_that_hangs_up_after_evidence(ask: Callable[[str, float], None]) -> None:
    """No request can follow on this connection: it is reported as not sent, and none was sent."""
    body = b'{"any":1}'

    def answer(say: Say) -> None:
        say(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    with answering(answer) as url, pytest.raises(httpx.ConnectError, match="ends the connection"):
        ask(url, 120.0)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nx: " + b"x" * 60_000 + b"\r\n\r\n"),
        (CHUNKED, b"1;" + b"x" * 998 + b"\r\na\r\n"),
        (CHUNKED, b"400\r\n" + b"a" * 1024 + b"\r\n"),
        (CHUNKED + b"0\r\n", b"x: a\r\n"),
    ],
    ids=["interim", "long-interim", "extensions", "body", "trailer"],
)
@pytest.mark.parametrize("ask", [asked, asked_async])
def test_one_that_answers_too_much(ask: Callable[[str, float], None], first: bytes, said: bytes) -> None:
    """Interim answers, a chunk's extensions, a body or a trailer without end: the client stops reading."""

    def answer(say: Say) -> None:
        say(first)
        for _ in range(32):
            say(said * (131_072 // len(said) + 1))

    with answering(answer) as url, pytest.raises(AuthenticityError) as refused:
        ask(url, 120.0)
    assert refused.value.code == "channel_evidence"
    assert refused.value.message in (
        "evidence: want an answer, got more bytes",
        "evidence: want an answer, got no HTTP/1.1",  # a trailer is too long for h11 before that
    )
