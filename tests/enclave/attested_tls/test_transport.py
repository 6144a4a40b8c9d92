"""The transport over httpcore's pool: what httpx's own does, over a network of the caller's."""

from __future__ import annotations

import inspect

import httpcore
import httpx
import pytest

from kluis.enclave.attested_tls.client import LIBRARY
from kluis.enclave.attested_tls.pools.pooling import LIMITS, AsyncPoolTransport, PoolTransport

PLAIN = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 3\r\n\r\n", b"yes"]
CUT = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 30\r\n\r\n", b"yes"]
OTHERS = {httpcore.ConnectionNotAvailable}  # which a pool catches itself


class Plain(PoolTransport, httpx.BaseTransport):
    """Without attested TLS, whose streams other tests have."""

    library = LIBRARY


class AsyncPlain(AsyncPoolTransport, httpx.AsyncBaseTransport):
    """Likewise."""

    library = LIBRARY


def test_a_request_and_its_response() -> None:
    """Method, path, headers and body go, and the response comes back whole, over a pool that closes."""
    with httpx.Client(transport=Plain(httpcore.MockBackend(PLAIN), LIMITS)) as client:
        response = client.post("http://enclave/path?x=1", content=b"body")
        assert (response.status_code, response.content) == (200, b"yes")
        assert response.extensions["http_version"] == b"HTTP/1.1"


def test_errors_are_of_httpx() -> None:
    """A body that ends early is httpx's error, which has the request."""
    transport = Plain(httpcore.MockBackend(CUT), LIMITS)
    with httpx.Client(transport=transport) as client, pytest.raises(httpx.RemoteProtocolError) as raised:
        client.get("http://enclave/")
    assert raised.value.request.url == "http://enclave/"
    assert isinstance(raised.value.__cause__, httpcore.RemoteProtocolError)


async def _asked(parts: list[bytes]) -> bytes:
    transport = AsyncPlain(httpcore.AsyncMockBackend(parts), LIMITS)
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get("http://enclave/")).content


def test_the_asynchronous_one() -> None:
    """Likewise where nothing waits."""
    anyio = pytest.importorskip("anyio")
    assert anyio.run(_asked, PLAIN) == b"yes"
    with pytest.raises(httpx.RemoteProtocolError):
        anyio.run(_asked, CUT)


def test_httpx2() -> None:
    """httpx2 has the same transport, with its own responses and errors."""
    httpx2 = pytest.importorskip("httpx2", reason="httpx2 is not installed: scripts/setup.sh test")
    from kluis.enclave.attested_tls import client2

    class Plain2(PoolTransport, httpx2.BaseTransport):
        library = client2.LIBRARY

    with httpx2.Client(transport=Plain2(httpcore.MockBackend(PLAIN), LIMITS)) as client:
        assert client.post("http://enclave/path?x=1", content=b"body").content == b"yes"
    cut = Plain2(httpcore.MockBackend(CUT), LIMITS)
    with httpx2.Client(transport=cut) as client, pytest.raises(httpx2.RemoteProtocolError):
        client.get("http://enclave/")


def test_every_error_of_httpcore_has_one_of_httpx() -> None:
    """So a newer httpcore with another error is seen here, and not by a caller."""
    public = {getattr(httpcore, name) for name in httpcore.__all__}
    errors = {each for each in public if inspect.isclass(each) and issubclass(each, Exception)}
    assert errors - OTHERS == set(LIBRARY.errors)
    assert all(ours.__name__ == theirs.__name__ for theirs, ours in LIBRARY.errors.items())
