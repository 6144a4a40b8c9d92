"""Requests and responses of every kind go through the proxy, whole and in order."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.connect.running import SECONDS, Running, everything, parsed
from tests.enclave.hosted.serving import Served


@pytest.fixture
def client(proxy: Running) -> Iterator[httpx.Client]:
    """A plain client of HTTP."""
    with httpx.Client(base_url=proxy.url, timeout=SECONDS) as made:
        yield made


def test_a_request_and_its_fields(client: httpx.Client, proxy: Running, served: Served) -> None:
    """What belongs to one connection stays on it; the enclave's Host is its own; everything else arrives."""
    answer = client.post(
        "/echo/a%2fb?c=d&e", content=b"body", headers={"X-Mine": "1", "TE": "trailers", "Cookie": "a=b"}
    )
    said = answer.json()
    assert (said["method"], said["path"], said["query"], said["body"]) == (
        "POST",
        "/echo/a%2fb",
        "c=d&e",
        "body",
    )
    fields = dict(said["fields"])
    assert fields["host"] == f"127.0.0.1:{served.port}"
    assert (fields["x-mine"], fields["cookie"], fields["content-length"]) == ("1", "a=b", "4")
    assert not {"te", "connection", "keep-alive"} & set(fields)
    assert answer.headers["x-kept"] == "yes"
    assert not {"connection", "x-hop", "alt-svc"} & set(answer.headers)


def test_one_connection_carries_many_requests(client: httpx.Client, proxy: Running) -> None:
    """A client's connection and the enclave's are kept: twenty requests cost one verification."""
    verdict = proxy.proxy.enclave.verdict
    stream = client.get("/").extensions["network_stream"]
    for _ in range(20):
        answer = client.get("/")
        assert answer.text == "hello from inside"
        assert answer.extensions["network_stream"] is stream
    assert proxy.proxy.enclave.verdict is verdict


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_methods_without_a_body(client: httpx.Client, method: str) -> None:
    """A response without a body is not waited for."""
    answer = client.request(method, "/" if method == "HEAD" else "/echo")
    assert answer.status_code == 200
    assert (answer.content == b"") == (method == "HEAD")
    assert client.post("/gate").status_code == 204
    client.get("/events")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_request(client: httpx.Client, chunked: bool) -> None:
    """48 MiB go in whole, with a length and in chunks."""
    piece = bytes(range(256)) * 4096
    body = iter([piece] * 48) if chunked else piece * 48
    answer = client.post("/digest", content=body).json()
    assert answer == {"sha256": hashlib.sha256(piece * 48).hexdigest(), "bytes": 48 << 20}


@pytest.mark.parametrize("query", ["", "&sized"])
def test_a_large_response(client: httpx.Client, query: str) -> None:
    """24 MiB come out whole, with a length and in chunks, and the connection goes on."""
    assert client.get(f"/large?mebibytes=24{query}").content == bytes(24 << 20)
    assert client.get("/").text == "hello from inside"


def test_events_arrive_as_they_are_sent(client: httpx.Client, proxy: Running) -> None:
    """An event arrives before the enclave has sent the next one."""
    with client.stream("GET", "/events") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"data: one\n\n"
        httpx.post(f"{proxy.url}/gate", timeout=SECONDS)
        assert next(parts) == b"data: two\n\n"


def test_expect_continue(proxy: Running) -> None:
    """The enclave requests the body, and only then the client sends it."""
    with proxy.connect() as client:
        client.sendall(
            b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        head = client.recv(1 << 16)
        assert head.startswith(b"HTTP/1.1 100 ")
        client.sendall(b"body")
        said = client.recv(1 << 16)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert hashlib.sha256(b"body").hexdigest().encode() in said


def test_an_answer_before_the_body(proxy: Running) -> None:
    """An enclave may answer before it has the body; the connection then ends, with the whole answer."""
    said = proxy.exchange(b"POST /deaf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nbegun")
    status, _, body = parsed(said)
    assert (status, body) == (403, b"no")


def test_an_old_client(proxy: Running) -> None:
    """A client of HTTP/1.0 gets a body without chunks, and the end of its connection."""
    status, fields, body = parsed(
        proxy.exchange(b"GET /large?mebibytes=1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
    )
    assert (status, body) == (200, bytes(1 << 20))
    assert "transfer-encoding" not in fields
    assert fields["connection"] == "close"


def test_requests_in_one_piece(proxy: Running) -> None:
    """Two requests sent at once are answered one after the other."""
    one = b"GET /echo/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    two = b"GET /echo/2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    said = proxy.exchange(one + two)
    assert said.index(b"/echo/1") < said.index(b"/echo/2")
    assert said.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    ("target", "wanted"),
    [("/elsewhere?a=b", "/elsewhere?a=b"), ("", "/"), ("http://example.com/", "http://example.com/")],
)
def test_a_redirect_stays_with_the_proxy(
    client: httpx.Client, served: Served, target: str, wanted: str
) -> None:
    """An address of the enclave becomes one of the proxy; no client is sent past it."""
    to = target if target.startswith("http") else f"https://127.0.0.1:{served.port}{target}"
    assert client.get("/away", params={"to": to}).headers["location"] == wanted


def test_a_client_that_hangs_up(proxy: Running, served: Served) -> None:
    """The enclave's work for it ends, and nothing of it remains."""
    before = served.enclave.told().count("forever ended")
    with proxy.connect() as client:
        client.sendall(b"GET /forever HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while b"data: one" not in said:
            said += client.recv(1 << 16)
    until = time.monotonic() + SECONDS
    while served.enclave.told().count("forever ended") == before:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_client_that_never_reads(proxy: Running, served: Served) -> None:
    """The enclave waits for its client: it has not sent all, when nobody reads; then all arrives."""
    with proxy.connect() as client:
        client.sendall(
            b"GET /large?mebibytes=64&sized HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        time.sleep(0.5)
        assert "all was sent" not in served.enclave.told()[-1:]
        said = everything(client)
    assert len(parsed(said)[2]) == 64 << 20
