"""Responses of a verified enclave that are wrong do not reach the client, nor spoil the next request."""

from __future__ import annotations

import pytest

from kluis.connect.admission import Admission
from kluis.connect.heads import MalformedError, read_request
from kluis.connect.responses import Reply

ADMISSION = Admission("enclave:8443", hosts=frozenset(), origins=frozenset(), token=None)
WEBSOCKET = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"


def reply(method: bytes = b"GET", fields: bytes = b"") -> Reply:
    return Reply(read_request(method + b" / HTTP/1.1\r\nHost: localhost" + fields), ADMISSION)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
        b"X" * (65 << 10),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_no_response(head: bytes) -> None:
    """What is no response of HTTP/1.1 is refused."""
    with pytest.raises(MalformedError):
        reply().read(head)


def test_bytes_that_answer_nothing() -> None:
    """What follows a response is not the next request's: the connection is given up."""
    one = reply()
    written = one.read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")
    assert written == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert one.done
    assert not one.persistent


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_responses_without_a_body(method: bytes, head: bytes) -> None:
    """They end with their head, whatever length they state."""
    one = reply(method)
    assert one.read(head) == head
    assert one.done
    assert one.persistent


def test_a_response_in_single_bytes() -> None:
    """However a response arrives, it is the same."""
    one = reply()
    sent = (
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    got = b"".join(one.read(sent[at : at + 1]) for at in range(len(sent)))
    wanted = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert got == wanted + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
    assert one.done


def test_a_response_that_ends_with_its_connection() -> None:
    """It goes on in chunks, so that a client sees whether it is whole."""
    one = reply()
    written = one.read(b"HTTP/1.1 200 OK\r\n\r\nok")
    assert written == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    assert not one.persistent
    assert one.finish() == b"0\r\n\r\n"
    cut = reply()
    cut.read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok")
    assert cut.finish() is None


def test_a_websocket() -> None:
    """What follows 101 is not HTTP; another status is a response like any."""
    one = reply(fields=WEBSOCKET)
    assert one.read(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n\r\nframes").endswith(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes"
    )
    assert one.switched
    other = reply(fields=WEBSOCKET)
    other.read(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
    assert other.done
    assert not other.switched
