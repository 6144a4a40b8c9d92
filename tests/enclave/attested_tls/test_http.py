"""What is no HTTP/1.1, what is slow, and what is silent: hostile clients of a rehearsed enclave."""

from __future__ import annotations

import contextlib
import json
import ssl
import time

import pytest

from tests.enclave.hosted.serving import Served

POST = b"POST /digest HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
NEXT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def heard(tls: ssl.SSLSocket) -> bytes:
    """Everything that the service sends until it closes."""
    said = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while part := tls.recv(65536):
            said += part
    return said


@pytest.mark.parametrize(
    ("said", "status", "code", "why"),
    [
        (b"hello\r\n\r\n", 400, "malformed", "illegal request line"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed", "Missing mandatory"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed", "multiple Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400, "malformed", "illegal header line"),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400, "malformed", "Content-Length"),
        (POST + b"Content-Length: +3\r\n\r\nabc", 400, "malformed", "bad Content-Length"),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "malformed", "illegal header line"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "unsupported", "Transfer-Encoding"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000, 431, "too_large", "too long"),
        (CHUNKED + b"zz\r\n", 400, "malformed", "illegal chunk header"),
        (CHUNKED + b"2\r\nabXX0\r\n\r\n", 400, "malformed", "malformed chunk footer"),
        (CHUNKED + b"2;" + b"x" * 40_000, 431, "too_large", "too long"),
        (GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431, "too_large", "head: want at most 32768 bytes"),
        (GET + b"X: " + b" " * 40_000 + b"a\r\n\r\n", 431, "too_large", "head: want at most 32768 bytes"),
        (GET + b"X: a\r\n" * 5000 + b"\r\n", 431, "too_large", "at most 100 fields, got 5001"),
        (GET + b"X: a\r\n" * 100 + b"\r\n", 431, "too_large", "head: want at most 100 fields, got 101"),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, "too_large", "head: want at most"),
        (CHUNKED + b"0\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431, "too_large", "chunks: want at most 32768"),
        (CHUNKED + b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431, "too_large", "want at most 100 fields"),
        (CHUNKED + (b"1;" + b"x" * 998 + b"\r\na\r\n") * 40, 431, "too_large", "chunks: want at most 32768"),
    ],
)
def test_what_is_no_http(served: Served, said: bytes, status: int, code: str, why: str) -> None:
    """It is refused once, in the form of every refusal; nothing after it is read as another request."""
    with served.plain_tls() as tls:
        tls.sendall(said + (b"" if status == 431 else b"\r\n" + NEXT))
        head, _, body = heard(tls).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/json" in head
    error = json.loads(body)["error"]
    assert error["code"] == code
    assert error["message"].startswith("request: want HTTP/1.1, got another: ")
    assert why in error["message"]


def test_a_head_that_is_too_long_behind_another_request(served: Served) -> None:
    """The limit is each request's: the first is answered, the second, that came with it, is refused."""
    with served.plain_tls() as tls:
        tls.sendall(NEXT + GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n")
        said = heard(tls)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 431 " in said


def test_small_chunks_are_fair(served: Served) -> None:
    """A body that comes a byte a chunk is read, and a head of nearly all that it may have."""
    with served.plain_tls() as tls:
        head = CHUNKED[:-2] + b"X: " + b"a" * 32_000 + b"\r\n" + b"Y: a\r\n" * 90 + b"\r\n"
        tls.sendall(head + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n" + NEXT[:-2] + b"Connection: close\r\n\r\n")
        said = heard(tls)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 200 ") == 2


def test_what_is_no_http_after_a_head(served: Served) -> None:
    """An answer to HEAD has no body, a refusal neither; and it is one."""
    with served.plain_tls() as tls:
        tls.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n")
        head, _, body = heard(tls).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body == b""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (b"https://y.example:1/where?a=/b", b"y.example:1 b'/where' a=%2Fb"),
        (b"HTTP://Y.example/where", b"Y.example b'/where' "),
        (b"https://y.example", b"hello from inside"),
        (b"https://y.example?/where", b"hello from inside"),
    ],
)
def test_a_target_in_absolute_form(served: Served, target: bytes, said: bytes) -> None:
    """It is a path of the host that it names, whatever ``Host`` contains."""
    with served.plain_tls() as tls:
        tls.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = heard(tls).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == said


@pytest.mark.parametrize(
    "target", [b"https:///where", b"https://u@y/where", b"ftp://y/where", b"//y/where", b"*"]
)
def test_a_target_of_another_form(served: Served, target: bytes) -> None:
    """No host, somebody's name before it, another scheme, none: nothing here has such a path."""
    with served.plain_tls() as tls:
        tls.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert heard(tls).startswith(b"HTTP/1.1 404 ")


def test_another_version(served: Served) -> None:
    """A client that begins in HTTP/2 hears that this is 1.1, and no handler hears of it."""
    before = served.enclave.told()
    with served.plain_tls() as tls:
        tls.sendall(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n" + NEXT)
        said = heard(tls)
    assert said.startswith(b"HTTP/1.1 505 ")
    assert said.endswith(b'{"error":{"code":"unsupported","message":"request: want HTTP/1.1, got HTTP/2.0"}}')
    assert served.enclave.told() == before


def test_no_http_after_an_answer_has_begun(served: Served) -> None:
    """Data sent with an answer is cut off with it, and all other clients are served."""
    with served.plain_tls() as tls:
        tls.sendall(b"POST /large?mebibytes=64 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        tls.recv(1000)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            tls.sendall(b"zz\r\n")
        heard(tls)
    with served.plain_tls() as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert heard(tls).startswith(b"HTTP/1.1 200 ")


def test_one_that_shakes_hands_and_says_nothing(hasty: Served) -> None:
    """It is closed as a kept connection is, so that nobody holds all places by that."""
    began = time.monotonic()
    with hasty.shaken_in_time() as tls:
        assert tls.recv(1) == b""
    assert time.monotonic() - began > 1.5


def test_a_body_that_trickles(hasty: Served) -> None:
    """A byte now and then is not enough: a body comes at some rate, or is given up."""
    with hasty.shaken_in_time() as tls:
        tls.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        tls.settimeout(0.3)
        said, sent = b"", 0
        while not said and sent < 400:  # the two seconds of its patience are over after some seven
            tls.sendall(b"x")
            sent += 1
            with contextlib.suppress(TimeoutError):
                said = tls.recv(1000)
        assert said.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_is_slow_but_comes(hasty: Served) -> None:
    """Longer than a piece may take, but at the rate that is wanted: it is taken whole.

    Each piece is due two seconds after the one before, and a slow machine may miss that now and then.
    """
    for _ in range(10):
        said = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError), hasty.shaken_in_time() as tls:
            tls.sendall(POST + b"Connection: close\r\nContent-Length: 20000\r\n\r\n")
            for _ in range(10):
                tls.sendall(bytes(2000))
                time.sleep(0.3)
            said = heard(tls)
        if said.startswith(b"HTTP/1.1 200 "):
            return
    raise AssertionError(said)
