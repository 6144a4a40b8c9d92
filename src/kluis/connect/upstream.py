"""One verified connection to the enclave: plaintext above, TLS below."""

from __future__ import annotations

import asyncio
from typing import Protocol

from kluis.appraisal import AttestationResult
from kluis.enclave.attested_tls.judge import elapsed
from kluis.enclave.attested_tls.link import CHUNK, Link
from kluis.errors import AuthenticityError


class User(Protocol):
    """What uses a connection for one request."""

    def response_received(self, plain: bytes) -> None:
        """Take bytes of the response."""

    def cut(self, closed: bool) -> None:
        """The connection ended; ``closed`` states whether TLS was closed in order."""

    def upstream_full(self, full: bool) -> None:
        """The connection takes no more bytes for now, or takes them again."""


class Upstream(asyncio.Protocol):
    """A connection whose other end was judged.

    Attributes:
        result: of the judgement.
        until: when the judgement expires, by :func:`kluis.enclave.attested_tls.judge.elapsed`.
        since: when the connection was last given back, by the loop's clock.
        fresh: whether it has carried no request yet.
        stalled: since when the enclave has not read what was sent, by the loop's clock; None if it reads.

    Args:
        link: this end; the other end's evidence was judged.
        result: of it.
        until: when it expires.
    """

    def __init__(self, link: Link, result: AttestationResult, until: float) -> None:
        self.result = result
        self.until = until
        self.since = 0.0
        self.fresh = True
        self.stalled: float | None = None
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._below: asyncio.Transport | None = None
        self._user: User | None = None
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether a request may be sent: it is open, and its judgement has not expired."""
        return self._below is not None and not self._below.is_closing() and elapsed() < self.until

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket has its transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy: a stream socket has no other
        self._below = transport

    def lend(self, user: User | None) -> None:
        """Give the connection to a user, until :meth:`give_back`; None: to nobody, because it ends."""
        self._user = user

    def give_back(self) -> None:
        """Take the connection back from its user."""
        self._user = None
        self.fresh = False
        self.since = self._loop.time()
        if self._below is not None:
            self._below.resume_reading()

    def write(self, plain: bytes) -> None:
        """Encrypt and send bytes of a request."""
        if self._below is None or self._below.is_closing():
            return
        if len(plain) <= CHUNK:
            self._link.write(plain)
        else:
            view = memoryview(plain)
            for at in range(0, len(view), CHUNK):
                self._link.write(bytes(view[at : at + CHUNK]))
        self._below.write(self._link.pending())

    def data_received(self, data: bytes) -> None:
        """Decrypt what the enclave sent."""
        link, parts = self._link, []
        try:
            link.feed(data)
            while plain := link.read():
                parts.append(plain)
        except AuthenticityError:
            self.abort()
            return
        if parts:
            if self._user is None:  # it answers no request
                self.abort()
                return
            self._user.response_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if plain is None:
            self._closed = True
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        user, self._user = self._user, None
        if user is not None:
            user.cut(self._closed)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self.stalled = self._loop.time()
        if self._user is not None:
            self._user.upstream_full(True)

    def resume_writing(self) -> None:
        """The socket takes more."""
        self.stalled = None
        if self._user is not None:
            self._user.upstream_full(False)

    def pause_reading(self) -> None:
        """Leave what the enclave sends in the socket."""
        if self._below is not None:
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read again what the enclave sends."""
        if self._below is not None:
            self._below.resume_reading()

    def close(self) -> None:
        """Close TLS and the socket."""
        if self._below is not None and not self._below.is_closing():
            self._link.close()
            self._below.write(self._link.pending())
            self._below.close()

    def abort(self) -> None:
        """Close the socket at once."""
        if self._below is not None:
            self._below.abort()
