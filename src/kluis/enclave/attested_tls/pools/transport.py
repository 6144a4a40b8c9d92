"""``httpx`` transports over httpcore's pools of connections, whose network is an argument.

httpx's own transports take no network backend. Errors are httpx's, each for httpcore's of the same name.
"""

from __future__ import annotations

from typing import Final

import httpcore
import httpx

from kluis.enclave.attested_tls.pools.pooling import AsyncBody, AsyncPool, Body, Errors, Pool

LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=15.0)


class PoolTransport(httpx.BaseTransport):
    """For ``httpx.Client(transport=...)``.

    Args:
        backend: what connects.
        limits: of the pool of connections.
    """

    def __init__(self, backend: httpcore.NetworkBackend, limits: httpx.Limits) -> None:
        self._pool = Pool(backend, limits, _ERRORS)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over a connection of the pool.

        Raises:
            httpx.TransportError: there is no connection, or it ends early.
        """
        response = self._pool.handle(request)
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response.stream, _ERRORS),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class AsyncPoolTransport(httpx.AsyncBaseTransport):
    """For ``httpx.AsyncClient(transport=...)``; as :class:`PoolTransport`."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, limits: httpx.Limits) -> None:
        self._pool = AsyncPool(backend, limits, _ERRORS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over a connection of the pool.

        Raises:
            httpx.TransportError: there is no connection, or it ends early.
        """
        response = await self._pool.handle(request)
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_AsyncBody(response.stream, _ERRORS),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.close()


class _Body(Body, httpx.SyncByteStream):
    """A response's body."""


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    """Likewise."""


_ERRORS: Final[Errors] = {
    httpcore.TimeoutException: httpx.TimeoutException,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
}
