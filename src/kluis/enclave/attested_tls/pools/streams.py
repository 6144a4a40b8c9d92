"""Streams of httpcore over attested TLS: a connection is judged where httpcore starts TLS.

No plaintext is sent before its judgement. A connection is kept as long as its judge trusts the other end;
then httpcore opens another.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Generator, Iterable
from typing import Any, Final

import httpcore

from kluis.appraisal import AttestationResult
from kluis.enclave.attested_tls.introduction import NO_EVIDENCE, ClientEnd
from kluis.enclave.attested_tls.judge import elapsed
from kluis.enclave.attested_tls.link import CHUNK
from kluis.errors import AuthenticityError, UsageError


class _Judged:
    """What both kinds of stream share: the link, its judgement, and until when that is trusted."""

    def __init__(self, below: Any, end: ClientEnd) -> None:
        self._below = below
        self._end = end
        self._link = end.open()
        self._result: AttestationResult | None = None
        self._until = math.inf

    def get_extra_info(self, info: str) -> Any:
        if info == RESULT:
            return self._result
        if info == "is_readable" and elapsed() >= self._until:
            return True  # httpcore takes an idle connection that is readable for one that has ended
        return None if info == "ssl_object" else self._below.get_extra_info(info)

    def _introduce(self, timeout: float | None) -> Generator[tuple[bytes, float | None], bytes, None]:
        """Verify the server: yields what to write, or no bytes to read, and within how many seconds."""
        began, last = elapsed(), math.inf if timeout is None else time.monotonic() + STEPS * timeout
        talk = self._end.introduce(self._link)
        try:
            wants = next(talk)
            while True:
                if sealed := self._link.pending():
                    yield sealed, _time_left(timeout, last)
                received = b""
                if wants and not (received := (yield b"", _time_left(timeout, last))):
                    raise AuthenticityError(NO_EVIDENCE.format("the end"), code="channel_evidence")
                wants = talk.send(received)
        except StopIteration as stop:
            self._result, self._until = stop.value, self._end.believed_until(began)
        except ConnectionError as error:
            raise httpcore.ConnectError(str(error)) from error

    def _seal(self, plain: bytes) -> bytes:
        if self._result is None:
            raise UsageError("attested TLS: want an enclave that is known, got none")
        self._link.write(plain)
        return self._link.pending()


class _Stream(_Judged, httpcore.NetworkStream):
    """A plaintext stream over a link over a stream of the backend."""

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        steps = self._introduce(timeout)
        try:
            sealed, left = next(steps)
            while True:
                received = self._below.write(sealed, left) if sealed else self._below.read(CHUNK, left)
                sealed, left = steps.send(received or b"")
        except StopIteration:
            return self
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
        if sealed := self._seal(buffer):
            self._below.write(sealed, timeout)

    def close(self) -> None:
        self._below.close()


class _AsyncStream(_Judged, httpcore.AsyncNetworkStream):
    """Like :class:`_Stream`."""

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        steps, below = self._introduce(timeout), self._below
        try:
            sealed, left = next(steps)
            while True:
                received = await (below.write(sealed, left) if sealed else below.read(CHUNK, left))
                sealed, left = steps.send(received or b"")
        except StopIteration:
            return self
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
        if sealed := self._seal(buffer):
            await self._below.write(sealed, timeout)

    async def aclose(self) -> None:
        await self._below.aclose()


class Backend(httpcore.NetworkBackend):
    """Opens connections, and verifies them where httpcore starts TLS.

    Args:
        below: opens them; None: TCP.
        end: this side of attested TLS.
    """

    def __init__(self, below: httpcore.NetworkBackend | None, end: ClientEnd) -> None:
        self._below = below or httpcore.SyncBackend()
        self._end = end

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Open a connection, which is not verified yet."""
        made = self._below.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(made, self._end)


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """Like :class:`Backend`."""

    def __init__(self, below: httpcore.AsyncNetworkBackend | None, end: ClientEnd) -> None:
        self._below = below or httpcore.AnyIOBackend()
        self._end = end

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Open a connection, which is not verified yet."""
        made = await self._below.connect_tcp(host, port, timeout, local_address, socket_options)
        return _AsyncStream(made, self._end)


def _time_left(timeout: float | None, end: float) -> float | None:
    """Seconds for the next read or write: otherwise a peer that sends slowly would restart the timeout with
    each byte.
    """
    if timeout is None:
        return None
    if (left := end - time.monotonic()) <= 0:
        raise httpcore.ConnectTimeout("evidence: the server does not come to an end with it")
    return min(timeout, left)


def require_tls(scheme: str) -> None:
    """Refuse an address without TLS.

    Raises:
        UsageError: the address does not begin with https.
    """
    if scheme != "https":
        raise UsageError(
            f"attested TLS: want an address that begins with https, got {scheme}",
            hint="without TLS there is no connection to attest",
        )


def attestation(response: Any) -> AttestationResult:
    """The judgement of the enclave that sent a response, of ``httpx`` or ``httpx2``.

    Raises:
        UsageError: the response came through another transport.
    """
    stream = response.extensions.get("network_stream")
    result = stream.get_extra_info(RESULT) if stream is not None else None
    if not isinstance(result, AttestationResult):
        raise UsageError("response: want one of an attested transport, got another")
    return result


STEPS: Final = 4
"""Steps of verifying a connection: the handshake's two, evidence of the server, and of the client."""
RESULT: Final = "kluis.attestation"
