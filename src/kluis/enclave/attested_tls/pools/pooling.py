"""httpcore's pools of connections, for the requests and errors of any library of httpx's kind."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, cast

import httpcore

Errors: TypeAlias = Mapping[type[BaseException], type[Exception]]
"""The library's error for each of httpcore's."""


class Pool:
    """A pool of connections.

    Args:
        backend: what connects.
        limits: the library's, of the pool.
        errors: the library's.
    """

    def __init__(self, backend: httpcore.NetworkBackend, limits: Any, errors: Errors) -> None:
        self._pool = httpcore.ConnectionPool(**_options(limits), network_backend=backend)
        self._errors = errors

    def handle(self, request: Any) -> httpcore.Response:
        """Send a request of the library's; raises its errors."""
        with _raised_as(self._errors):
            return self._pool.handle_request(_request(request))

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class AsyncPool:
    """As :class:`Pool`."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, limits: Any, errors: Errors) -> None:
        self._pool = httpcore.AsyncConnectionPool(**_options(limits), network_backend=backend)
        self._errors = errors

    async def handle(self, request: Any) -> httpcore.Response:
        """Send a request of the library's; raises its errors."""
        with _raised_as(self._errors):
            return await self._pool.handle_async_request(_request(request))

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class Body:
    """A response's body, whose errors are the library's."""

    def __init__(self, stream: Any, errors: Errors) -> None:
        self._stream = stream
        self._errors = errors

    def __iter__(self) -> Iterator[bytes]:
        with _raised_as(self._errors):
            yield from self._stream

    def close(self) -> None:
        """Give up the rest."""
        self._stream.close()


class AsyncBody:
    """As :class:`Body`."""

    def __init__(self, stream: Any, errors: Errors) -> None:
        self._stream = stream
        self._errors = errors

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _raised_as(self._errors):
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        """Give up the rest."""
        await self._stream.aclose()


def _options(limits: Any) -> dict[str, Any]:
    return {
        "ssl_context": _NO_CERTIFICATES,
        "max_connections": limits.max_connections,
        "max_keepalive_connections": limits.max_keepalive_connections,
        "keepalive_expiry": limits.keepalive_expiry,
    }


def _request(request: Any) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=cast("Any", request.stream),
        extensions=request.extensions,
    )


@contextmanager
def _raised_as(errors: Errors) -> Iterator[None]:
    try:
        yield
    except tuple(errors) as error:
        kind = next(errors[each] for each in type(error).__mro__ if each in errors)
        raise kind(str(error)) from error


# httpcore hands this to start_tls, where nothing looks at it; made without loading anybody's roots.
_NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
