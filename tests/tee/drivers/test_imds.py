"""The client of the metadata service: bounded in time and size, follows nothing."""

from __future__ import annotations

import pytest

from kluis.errors import UnavailableError
from kluis.tee.drivers import imds
from kluis.tee.drivers.imds import Imds
from tests.tee.drivers.metadata import ok, serving


def test_get() -> None:
    """A request has the header that a forwarded one would not have."""
    seen = []

    def answer(request: bytes) -> bytes:
        seen.append(request)
        return ok(b'{"a":1}')

    with serving(answer) as client:
        assert client.get("/metadata/x") == b'{"a":1}'
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"GET /metadata/x HTTP/1.1"
    assert b"Metadata: true" in lines


def test_post() -> None:
    """A body is sent with its length."""
    with serving(lambda request: ok(request[-4:])) as client:
        assert client.post("/acc/tdquote", b"body") == b"body"


def test_chunked() -> None:
    """A chunked answer is put together."""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    with serving(lambda _: data) as client:
        assert client.get("/") == b"abcde"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirects(status: str) -> None:
    """A redirect is an error, whatever it leads to."""
    data = f"HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".encode()
    with (
        serving(lambda _: data) as client,
        pytest.raises(UnavailableError, match=r"is redirected .*, which is not followed") as refused,
    ):
        client.get("/")
    assert refused.value.code == "imds"
    assert refused.value.exit_code == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 429 Too Many\r\n\r\n", "want status 200, got 429"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "want an HTTP answer, got 'SSH-2.0-OpenSSH'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "want '9' bytes, got 2"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", "want '1' bytes, got 2"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", "HTTP header"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab", "want chunked, got 'gzip'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", "HTTP chunk"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 2000 + b"\r\na\r\n0\r\n\r\n",
            "HTTP chunk",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab\r\n0\r\n\r\n", "is cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "want '-1' bytes"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "want an HTTP answer"),
        (ok(bytes(imds.MAX_ANSWER + 1)), "want at most 262144 bytes"),
        (ok(bytes(4 * imds.MAX_ANSWER)), "the answer is too large"),
    ],
)
def test_bad_answers(data: bytes, message: str) -> None:
    """What is no answer, or too large, is an error of this machine."""
    with serving(lambda _: data) as client, pytest.raises(UnavailableError, match=message) as refused:
        client.get("/")
    assert refused.value.code == "imds"


def test_hangs() -> None:
    """A service that accepts and never answers is given up."""
    with (
        serving(lambda _: b"", seconds=0.2) as client,
        pytest.raises(UnavailableError, match=r"no answer in 0\.2 s"),
    ):
        client.get("/")


def test_trickles() -> None:
    """The limit is for the whole exchange: a byte now and then does not extend it."""
    times = iter([0.0, 1.0, 20.0, 31.0, 32.0])
    with serving(lambda _: b"HTTP/1.1 200 OK\r\n") as client:
        host, port = client._address
        slow = Imds(host, port, seconds=30, clock=lambda: next(times, 99.0))
        with pytest.raises(UnavailableError, match=r"no answer in 30 s|none that is complete"):
            slow.get("/")


def test_nothing_listens() -> None:
    """Without a service the error names the address."""
    with pytest.raises(UnavailableError, match="IMDS: /: Connection refused") as refused:
        Imds("127.0.0.1", 1).get("/")
    assert imds.HOST in str(refused.value.hint)


def test_default_address() -> None:
    """By default it speaks to the link-local address of clouds, and to no other."""
    assert Imds()._address == ("169.254.169.254", 80)
