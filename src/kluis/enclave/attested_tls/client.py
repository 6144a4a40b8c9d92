"""``httpx`` transports that verify the enclave at the other end before they send a request.

For each connection there is the TLS 1.3 handshake, a question with this side's nonce, the server's evidence,
and its judgement. Only then is the first byte of the application's request sent. A connection is kept as long
as its judge trusts the other end; then the next request opens another. Pool, keep-alive and HTTP/1.1 are
httpcore's. The certificate is ignored, because it proves nothing beyond the evidence. Spec:
:mod:`kluis.formats.kluis.attested_tls`.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore
import httpx

from kluis.appraisal import AttestationResult
from kluis.enclave.attested_tls.introduction import NO_EVIDENCE, ClientEnd, Present
from kluis.enclave.attested_tls.judge import Judge, elapsed
from kluis.enclave.attested_tls.link import CHUNK
from kluis.enclave.attested_tls.transport import LIMITS, AsyncPoolTransport, PoolTransport
from kluis.errors import AuthenticityError, UsageError


def attestation(response: httpx.Response) -> AttestationResult:
    """The judgement of the enclave that sent a response.

    Raises:
        UsageError: the response came through another transport.
    """
    stream = response.extensions.get("network_stream")
    result = stream.get_extra_info(RESULT) if stream is not None else None
    if not isinstance(result, AttestationResult):
        raise UsageError("response: want one of an attested transport, got another")
    return result


class AttestedTransport(PoolTransport):
    """For ``httpx.Client(transport=...)``.

    Args:
        judge: requirements on the server.
        present: makes this end's evidence, if it is an enclave that attests itself.
        limits: of the pool of connections.
        backend: opens connections; TCP by default.

    In addition to httpx's own errors, a request raises the KluisError of a failed rule.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: httpx.Limits = LIMITS,
        backend: httpcore.NetworkBackend | None = None,
    ) -> None:
        below = backend or httpcore.SyncBackend()
        super().__init__(_Backend(below, ClientEnd(judge, present)), limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        _only_tls(request)
        return super().handle_request(request)


class AsyncAttestedTransport(AsyncPoolTransport):
    """For ``httpx.AsyncClient(transport=...)``; as :class:`AttestedTransport`."""

    def __init__(
        self,
        judge: Judge,
        *,
        present: Present | None = None,
        limits: httpx.Limits = LIMITS,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        below = backend or httpcore.AnyIOBackend()
        super().__init__(_AsyncBackend(below, ClientEnd(judge, present)), limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to a verified enclave.

        Raises:
            UsageError: the address does not begin with https.
        """
        _only_tls(request)
        return await super().handle_async_request(request)


class _Stream(httpcore.NetworkStream):
    """A plaintext stream over a link over a stream of the backend."""

    def __init__(self, below: httpcore.NetworkStream, end: ClientEnd) -> None:
        self._below = below
        self._end = end
        self._link = end.open()
        self._result: AttestationResult | None = None
        self._until = math.inf

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        talk, end = self._end.introduce(self._link), _end_of(timeout)
        try:
            wants = next(talk)
            while True:
                self._flush(_time_left(timeout, end))
                wants = talk.send(
                    _require_bytes(self._below.read(CHUNK, _time_left(timeout, end))) if wants else b""
                )
        except StopIteration as stop:
            self._result, self._until = stop.value, self._end.believed_until()
            return self
        except ConnectionError as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while not (plain := self._link.read()):
            sealed = b"" if plain is None else self._below.read(CHUNK, timeout)
            if not sealed:
                return b""
            self._link.feed(sealed)
        return plain

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._only_known()
        self._link.write(buffer)
        self._flush(timeout)

    def close(self) -> None:
        self._below.close()

    def get_extra_info(self, info: str) -> Any:
        return _extra_info(info, self._result, self._until, self._below.get_extra_info)

    def _flush(self, timeout: float | None) -> None:
        if sealed := self._link.pending():
            self._below.write(sealed, timeout)

    def _only_known(self) -> None:
        if self._result is None:
            raise UsageError("attested TLS: want an enclave that is known, got none")


class _AsyncStream(httpcore.AsyncNetworkStream):
    """Like :class:`_Stream`."""

    def __init__(self, below: httpcore.AsyncNetworkStream, end: ClientEnd) -> None:
        self._below = below
        self._end = end
        self._link = end.open()
        self._result: AttestationResult | None = None
        self._until = math.inf

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        talk, end = self._end.introduce(self._link), _end_of(timeout)
        try:
            wants = next(talk)
            while True:
                await self._flush(_time_left(timeout, end))
                sealed = (
                    _require_bytes(await self._below.read(CHUNK, _time_left(timeout, end))) if wants else b""
                )
                wants = talk.send(sealed)
        except StopIteration as stop:
            self._result, self._until = stop.value, self._end.believed_until()
            return self
        except ConnectionError as error:
            await self.aclose()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            await self.aclose()
            raise

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while not (plain := self._link.read()):
            sealed = b"" if plain is None else await self._below.read(CHUNK, timeout)
            if not sealed:
                return b""
            self._link.feed(sealed)
        return plain

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._result is None:
            raise UsageError("attested TLS: want an enclave that is known, got none")
        self._link.write(buffer)
        await self._flush(timeout)

    async def aclose(self) -> None:
        await self._below.aclose()

    def get_extra_info(self, info: str) -> Any:
        return _extra_info(info, self._result, self._until, self._below.get_extra_info)

    async def _flush(self, timeout: float | None) -> None:
        if sealed := self._link.pending():
            await self._below.write(sealed, timeout)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, below: httpcore.NetworkBackend, end: ClientEnd) -> None:
        self._below = below
        self._end = end

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        made = self._below.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(made, self._end)


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, below: httpcore.AsyncNetworkBackend, end: ClientEnd) -> None:
        self._below = below
        self._end = end

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        made = await self._below.connect_tcp(host, port, timeout, local_address, socket_options)
        return _AsyncStream(made, self._end)


def _end_of(timeout: float | None) -> float:
    """The deadline for verifying a server, from the timeout of each step."""
    return math.inf if timeout is None else time.monotonic() + STEPS * timeout


def _time_left(timeout: float | None, end: float) -> float | None:
    """Seconds for the next read or write: otherwise a peer that sends slowly would restart the timeout with
    each byte.
    """
    if timeout is None:
        return None
    if (left := end - time.monotonic()) <= 0:
        raise httpcore.ConnectTimeout("evidence: the server does not come to an end with it")
    return min(timeout, left)


def _require_bytes(sealed: bytes) -> bytes:
    if not sealed:
        raise AuthenticityError(NO_EVIDENCE.format("the end"), code="channel_evidence")
    return sealed


def _extra_info(
    info: str, result: AttestationResult | None, until: float, below: Callable[[str], Any]
) -> Any:
    if info == RESULT:
        return result
    if info == "is_readable" and elapsed() >= until:
        return True  # httpcore takes an idle connection that is readable for one that has ended
    return None if info == "ssl_object" else below(info)


def _only_tls(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise UsageError(
            f"attested TLS: want an address that begins with https, got {request.url.scheme}",
            hint="without TLS there is no connection to attest",
        )


STEPS: Final = 4
"""Steps of verifying a connection: the handshake's two, evidence of the server, and of the client."""
RESULT: Final = "kluis.attestation"
