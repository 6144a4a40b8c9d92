"""Requests that pages, other users and smugglers send to the proxy do not reach the enclave."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator

import pytest

from kluis.enclave.attested_tls.judge import Judge
from tests.connect.chatting import Ended, chat
from tests.connect.running import PATIENT, SECONDS, Running, everything, parsed, running
from tests.enclave.hosted.serving import Served

TOKEN = "a-token-of-this-users-own"


@pytest.fixture(scope="module")
def guarded(served: Served, judge: Judge) -> Iterator[Running]:
    """A proxy with a token, another name, and a page that may use it."""
    with running(
        judge,
        served.port,
        token=TOKEN,
        hosts=frozenset({"kluis.local"}),
        origins=frozenset({"http://localhost:3000"}),
    ) as found:
        yield found


def get(*fields: str, host: str = "127.0.0.1:8080", target: str = "/echo") -> bytes:
    """A request with these fields."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


def fields_of(answer: bytes) -> dict[str, str]:
    """What the enclave got."""
    status, _, body = parsed(answer)
    assert status == 200, answer
    return dict(json.loads(body)["fields"])


def refusal(proxy: Running, served: Served, request: bytes) -> tuple[int, str]:
    """The status and code of a refusal; nothing of the request reached the enclave."""
    before = served.enclave.told()
    said = proxy.exchange(request)
    assert len(re.findall(rb"HTTP/1.1 \d", said)) == 1
    status, fields, body = parsed(said)
    assert fields["connection"] == "close"
    assert served.enclave.told() == before
    return status, json.loads(body)["error"]["code"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8080", "LOCALHOST:8080"])
def test_names_of_the_proxy(proxy: Running, served: Served, host: str) -> None:
    """Loopback's names are the proxy's, with any port."""
    assert fields_of(proxy.exchange(get(host=host)))["host"] == f"127.0.0.1:{served.port}"


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:8080", "127.0.0.1.attacker.example", "localhost@a", "", "::1"],
)
def test_dns_rebinding(proxy: Running, served: Served, host: str) -> None:
    """A page whose own name leads to this address is refused: its name is not the proxy's."""
    assert refusal(proxy, served, get(host=host)) == (421, "connect_host")


def test_a_target_that_names_another_host(proxy: Running, served: Served) -> None:
    """The host in a request's target counts, as for any server."""
    request = get(target="http://attacker.example/echo", host="localhost")
    assert refusal(proxy, served, request) == (421, "connect_host")
    assert fields_of(proxy.exchange(get(target="http://localhost/echo", host="attacker.example")))


@pytest.mark.parametrize(
    "fields",
    [
        ["Origin: http://attacker.example"],
        ["Origin: null"],
        ["Origin: http://localhost:3000"],
        ["Origin: https://127.0.0.1:8080"],
        ["Origin: http://127.0.0.1:8081"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
        ["Origin: http://attacker.example", "Sec-Fetch-Site: same-origin"],
    ],
)
def test_cross_site_requests(proxy: Running, served: Served, fields: list[str]) -> None:
    """Requests of pages that the proxy did not serve are refused, whatever they contain."""
    assert refusal(proxy, served, get(*fields)) == (403, "connect_origin")


def test_cross_site_websockets(proxy: Running) -> None:
    """A page may open a WebSocket to any address: the proxy looks at its origin."""
    with pytest.raises(Ended) as ended, chat(proxy.port, "/socket", Origin="http://attacker.example"):
        pass
    assert ended.value.code == 403


def test_pages_of_the_proxy(proxy: Running, served: Served) -> None:
    """A page that came through the proxy may send requests; its origin is the enclave's, for the enclave."""
    got = fields_of(proxy.exchange(get("Origin: http://127.0.0.1:8080", "Sec-Fetch-Site: same-origin")))
    assert got["origin"] == f"https://127.0.0.1:{served.port}"
    assert fields_of(proxy.exchange(get("Sec-Fetch-Site: none")))


def test_a_token(guarded: Running, served: Served) -> None:
    """Without the token there is no request, and the enclave never gets it."""
    for fields in ([], ["Authorization: Bearer another"], [f"Authorization: Basic {TOKEN}"]):
        assert refusal(guarded, served, get(*fields)) == (401, "connect_token")
    own, proxys = f"Authorization: Bearer {TOKEN}", f"Proxy-Authorization: bearer {TOKEN}"
    for fields in ([own], [proxys], [own, proxys]):
        got = fields_of(guarded.exchange(get(*fields)))
        assert TOKEN not in json.dumps(got)
    both = get(f"Proxy-Authorization: Bearer {TOKEN}", "Authorization: Bearer of-the-application")
    assert fields_of(guarded.exchange(both))["authorization"] == "Bearer of-the-application"


def test_another_name_and_page(guarded: Running) -> None:
    """What the user named is accepted: a name of the proxy, and another page's origin, as it is."""
    token = f"Authorization: Bearer {TOKEN}"
    got = fields_of(guarded.exchange(get(token, "Origin: http://localhost:3000", host="kluis.local:80")))
    assert got["origin"] == "http://localhost:3000"


@pytest.mark.parametrize(
    "target",
    ["/.well-known/kluis/evidence", "/.well-known/kluis/%65vidence", "/%2ewell-known/kluis/evidence?a"],
)
def test_evidence_is_not_a_clients(proxy: Running, served: Served, target: str) -> None:
    """Clients share connections: none of them requests or presents evidence on one."""
    assert refusal(proxy, served, get(target=target)) == (404, "connect_evidence")


SMUGGLED = b"GET /echo/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
TWICE = {
    "length-and-chunks": (b"Content-Length: 4\r\nTransfer-Encoding: chunked", 400),
    "chunks-and-length": (b"Transfer-Encoding: chunked\r\nContent-Length: 4", 400),
    "two-lengths": (b"Content-Length: 4\r\nContent-Length: 5", 400),
    "equal-lengths": (b"Content-Length: 4\r\nContent-Length: 4", 400),
    "list-of-lengths": (b"Content-Length: 4, 4", 400),
    "signed-length": (b"Content-Length: +4", 400),
    "hex-length": (b"Content-Length: 0x4", 400),
    "huge-length": (b"Content-Length: 18446744073709551616", 400),
    "two-codings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
    "other-coding": (b"Transfer-Encoding: gzip, chunked", 501),
    "hidden-coding": (b"Transfer-Encoding: \x0bchunked", 400),
    "spaced-name": (b"Transfer-Encoding : chunked", 400),
    "folded": (b"X: a\r\n Transfer-Encoding: chunked", 400),
    "folded-host": (b"X: a\r\n\tb", 400),
    "bare-lf": (b"X: a\nTransfer-Encoding: chunked", 400),
    "bare-cr": (b"X: a\rTransfer-Encoding: chunked", 400),
    "nul": (b"X: a\x00b", 400),
    "second-host": (b"Host: localhost", 400),
    "second-other-host": (b"Host: attacker.example", 400),
    "no-colon": (b"Transfer-Encoding", 400),
    "empty-name": (b": chunked", 400),
}


@pytest.mark.parametrize("name", TWICE)
def test_smuggling(proxy: Running, served: Served, name: str) -> None:
    """A head that two readers could understand differently is refused, and nothing behind it is read."""
    field, wanted = TWICE[name]
    request = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + field + b"\r\n\r\n" + SMUGGLED
    assert refusal(proxy, served, request)[0] == wanted


@pytest.mark.parametrize(
    "head",
    [
        b"GET /echo\r\nHost: localhost\r\n\r\n",
        b"GET  /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /echo HTTP/1.1 \r\nHost: localhost\r\n\r\n",
        b"GET /echo HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET /echo HTTP/1.1\r\n\r\n",
        b"GET echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\r\n\r\nGET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G\xc3\x89T /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /echo HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_no_requests(proxy: Running, served: Served, head: bytes) -> None:
    """What is no request of HTTP/1.1 is refused."""
    assert refusal(proxy, served, head) == (400, "malformed")


@pytest.mark.parametrize(
    "body",
    [
        b"4\r\nbody\r\nx\r\n",
        b"4\r\nbodyx\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"4;a=\x00\r\nbody\r\n0\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_chunks_that_are_none(proxy: Running, body: bytes) -> None:
    """A body that is not chunked as it says is refused, and the enclave's connection is given up."""
    request = b"POST /digest HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    said = proxy.exchange(request + SMUGGLED)
    assert parsed(said)[0] == 400
    assert said.count(b"HTTP/1.1 ") == 1


def test_what_belongs_to_one_hop(proxy: Running) -> None:
    """Fields that Connection lists, and those that always belong to one hop, end at the proxy."""
    got = fields_of(
        proxy.exchange(
            b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
            b"Keep-Alive: 5\r\nProxy-Connection: a\r\nTE: trailers\r\nTrailer: X\r\n"
            b"Upgrade: h2c\r\nX-Kept: 2\r\n\r\n"
        )
    )
    assert set(got) == {"host", "x-kept"}


def test_heads_that_are_too_long(proxy: Running, served: Served) -> None:
    """A head has a largest size, and a largest number of fields."""
    long = b"GET /echo HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (40 << 10) + b"\r\n\r\n"
    many = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 200 + b"\r\n"
    endless = b"GET /" + b"a" * (40 << 10)
    for request in (long, many, endless):
        assert refusal(proxy, served, request)[0] == 431


def test_slow_clients(served: Served, judge: Judge) -> None:
    """A head that does not come to an end, an idle client, and one that does not read are ended."""
    brief = dataclasses.replace(PATIENT, head_seconds=1.0, idle_seconds=1.0, stall_seconds=1.0)
    with (
        running(judge, served.port, limits=brief) as proxy,
        proxy.connect() as slow,
        proxy.connect() as idle,
        proxy.connect() as deaf,
    ):
        deaf.sendall(b"GET /large?mebibytes=64&sized HTTP/1.1\r\nHost: localhost\r\n\r\n")
        slow.sendall(b"GET /echo HTTP/1.1\r\n")
        assert parsed(everything(slow))[0] == 408
        assert everything(idle) == b""
        _wait_for(proxy, 0)
        assert len(everything(deaf)) < 64 << 20


def test_too_many_clients(served: Served, judge: Judge) -> None:
    """Past the bound, a client is answered with an error; once others end, there is room."""
    few = dataclasses.replace(PATIENT, connections=3)
    with running(judge, served.port, limits=few) as proxy:
        held = [proxy.connect() for _ in range(3)]
        for each in held:  # one that sends nothing gives way
            each.sendall(get().replace(b"Connection: close\r\n", b""))
            assert each.recv(1)
        _wait_for(proxy, 3)
        status, _, body = parsed(proxy.exchange(get()))
        assert (status, json.loads(body)["error"]["code"]) == (503, "connect_full")
        for each in held:
            each.close()
        _wait_for(proxy, 0)
        assert fields_of(proxy.exchange(get()))


def _wait_for(proxy: Running, count: int) -> None:
    until = time.monotonic() + SECONDS
    while len(proxy.proxy._clients) != count:
        assert time.monotonic() < until
        time.sleep(0.02)
