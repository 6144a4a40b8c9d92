"""``httpx2`` transports over httpcore's pools of connections, as ``transport`` has them for httpx.

httpcore serves both: only requests, responses and errors are the library's own.
"""

from __future__ import annotations

from typing import Final

import httpcore
import httpx2

from kluis.enclave.attested_tls.pools.pooling import AsyncBody, AsyncPool, Body, Errors, Pool

LIMITS: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=15.0)


class PoolTransport(httpx2.BaseTransport):
    """For ``httpx2.Client(transport=...)``.

    Args:
        backend: what connects.
        limits: of the pool of connections.
    """

    def __init__(self, backend: httpcore.NetworkBackend, limits: httpx2.Limits) -> None:
        self._pool = Pool(backend, limits, _ERRORS)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over a connection of the pool.

        Raises:
            httpx2.TransportError: there is no connection, or it ends early.
        """
        response = self._pool.handle(request)
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response.stream, _ERRORS),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class AsyncPoolTransport(httpx2.AsyncBaseTransport):
    """For ``httpx2.AsyncClient(transport=...)``; as :class:`PoolTransport`."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, limits: httpx2.Limits) -> None:
        self._pool = AsyncPool(backend, limits, _ERRORS)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over a connection of the pool.

        Raises:
            httpx2.TransportError: there is no connection, or it ends early.
        """
        response = await self._pool.handle(request)
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_AsyncBody(response.stream, _ERRORS),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.close()


class _Body(Body, httpx2.SyncByteStream):
    """A response's body."""


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream):
    """Likewise."""


_ERRORS: Final[Errors] = {
    httpcore.TimeoutException: httpx2.TimeoutException,
    httpcore.ConnectTimeout: httpx2.ConnectTimeout,
    httpcore.ReadTimeout: httpx2.ReadTimeout,
    httpcore.WriteTimeout: httpx2.WriteTimeout,
    httpcore.PoolTimeout: httpx2.PoolTimeout,
    httpcore.NetworkError: httpx2.NetworkError,
    httpcore.ConnectError: httpx2.ConnectError,
    httpcore.ReadError: httpx2.ReadError,
    httpcore.WriteError: httpx2.WriteError,
    httpcore.ProxyError: httpx2.ProxyError,
    httpcore.UnsupportedProtocol: httpx2.UnsupportedProtocol,
    httpcore.ProtocolError: httpx2.ProtocolError,
    httpcore.LocalProtocolError: httpx2.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx2.RemoteProtocolError,
}
