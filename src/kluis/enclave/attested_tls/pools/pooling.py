"""httpcore's pools of connections to verified enclaves, for any library of httpx's kind.

httpcore serves ``httpx`` and ``httpx2``: only their classes of responses, bodies and errors differ. Their own
transports take no network backend.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias, cast

import httpcore

from kluis.enclave.attested_tls.introduction import ClientEnd, Present
from kluis.enclave.attested_tls.judge import Judge
from kluis.enclave.attested_tls.pools.streams import AsyncBackend, Backend, require_tls

Errors: TypeAlias = Mapping[type[BaseException], type[Exception]]
"""The library's error for each of httpcore's."""


class Limits(Protocol):
    """Limits of a pool: ``httpx.Limits`` or ``httpx2.Limits``."""

    @property
    def max_connections(self) -> int | None:
        """At once; None: no limit."""

    @property
    def max_keepalive_connections(self) -> int | None:
        """Kept while no request uses them; None: no limit."""

    @property
    def keepalive_expiry(self) -> float | None:
        """Seconds for which they are kept; None: no limit."""


class _Limits(NamedTuple):
    max_connections: int | None = 100
    max_keepalive_connections: int | None = 20
    keepalive_expiry: float | None = 15.0


LIMITS: Final[Limits] = _Limits()


class Library(NamedTuple):
    """The classes of one library.

    Attributes:
        response: of its responses.
        body: a :class:`Body` that it accepts.
        async_body: an :class:`AsyncBody` that it accepts.
        errors: each for httpcore's of the same name.
    """

    response: Any
    body: type[Body]
    async_body: type[AsyncBody]
    errors: Errors


def errors_of(library: ModuleType) -> Errors:
    """The library's error for each of httpcore's, which has the same name."""
    return {getattr(httpcore, name): getattr(library, name) for name in ERRORS}


class PoolTransport:
    """A transport over a pool, together with a library's ``BaseTransport``.

    Args:
        backend: opens connections.
        limits: of the pool.
    """

    library: ClassVar[Library]

    def __init__(self, backend: httpcore.NetworkBackend, limits: Limits) -> None:
        self._pool = httpcore.ConnectionPool(**_options(limits), network_backend=backend)

    def handle_request(self, request: Any) -> Any:
        """Send a request of the library's over a connection of the pool, and return its response.

        The library's error is raised if there is no connection, or if it ends early.
        """
        errors = self.library.errors
        with _raised_as(errors):
            response = self._pool.handle_request(_request(request))
        return _response(self.library, response, self.library.body(response.stream, errors))

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class AttestedPool(PoolTransport):
    """A transport that verifies the enclave at the other end before it sends a request.

    Args:
        judge: requirements on the server.
        present: makes this end's evidence, if it is an enclave that attests itself.
        limits: of the pool of connections.
        backend: opens connections; TCP by default.

    In addition to the library's own errors, a request raises the KluisError of a failed rule.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: Limits = LIMITS,
        backend: httpcore.NetworkBackend | None = None,
    ) -> None:
        super().__init__(Backend(backend, ClientEnd(judge, present)), limits)

    def handle_request(self, request: Any) -> Any:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        require_tls(request.url.scheme)
        return super().handle_request(request)


class AsyncPoolTransport:
    """As :class:`PoolTransport`, together with a library's ``AsyncBaseTransport``."""

    library: ClassVar[Library]

    def __init__(self, backend: httpcore.AsyncNetworkBackend, limits: Limits) -> None:
        self._pool = httpcore.AsyncConnectionPool(**_options(limits), network_backend=backend)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, as :meth:`PoolTransport.handle_request` does."""
        errors = self.library.errors
        with _raised_as(errors):
            response = await self._pool.handle_async_request(_request(request))
        return _response(self.library, response, self.library.async_body(response.stream, errors))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class AsyncAttestedPool(AsyncPoolTransport):
    """As :class:`AttestedPool`."""

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: Limits = LIMITS,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        super().__init__(AsyncBackend(backend, ClientEnd(judge, present)), limits)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        require_tls(request.url.scheme)
        return await super().handle_async_request(request)


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


def _options(limits: Limits) -> dict[str, Any]:
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


def _response(library: Library, response: httpcore.Response, body: Body | AsyncBody) -> Any:
    return library.response(
        status_code=response.status, headers=response.headers, stream=body, extensions=response.extensions
    )


@contextmanager
def _raised_as(errors: Errors) -> Iterator[None]:
    try:
        yield
    except tuple(errors) as error:
        kind = next(errors[each] for each in type(error).__mro__ if each in errors)
        raise kind(str(error)) from error


ERRORS: Final = (
    "TimeoutException", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "NetworkError",
    "ConnectError", "ReadError", "WriteError", "ProxyError", "UnsupportedProtocol", "ProtocolError",
    "LocalProtocolError", "RemoteProtocolError",
)  # fmt: skip
# httpcore hands this to start_tls, where nothing looks at it; made without loading anybody's roots.
_NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
