"""Open a connection to an enclave and verify it, in a thread: nothing else is sent before its judgement."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from kluis.appraisal import AttestationResult
from kluis.enclave.attested_tls.introduction import ClientEnd
from kluis.enclave.attested_tls.judge import elapsed
from kluis.enclave.attested_tls.link import CHUNK, Link
from kluis.errors import AuthenticityError, UnavailableError


class Opened(NamedTuple):
    """A connection whose other end was judged.

    Attributes:
        end: the connected socket, non-blocking.
        link: TLS over it.
        result: of the judgement.
        began: before its evidence was requested, by :func:`kluis.enclave.attested_tls.judge.elapsed`.
    """

    end: socket.socket
    link: Link
    result: AttestationResult
    began: float


class Opener:
    """Opens connections to one address.

    Args:
        host: a name or an address.
        port: 1 to 65535.
        end: this side of attested TLS, with the requirements on the other.
        seconds: for everything until the judgement.
    """

    def __init__(self, host: str, port: int, end: ClientEnd, seconds: float) -> None:
        self._host = host
        self._port = port
        self._end = end
        self._seconds = seconds
        self._open: set[socket.socket] = set()
        self._stopped = False

    def open(self) -> Opened:
        """Connect, do the handshake, request evidence and judge it.

        Raises:
            UnavailableError: nobody answers there, or not in time.
            KluisError: it is not the required enclave.
        """
        end = time.monotonic() + self._seconds
        with self._errors():
            made = socket.create_connection((self._host, self._port), timeout=self._seconds)
        self._open.add(made)
        try:
            if self._stopped:
                raise UnavailableError("enclave: this proxy stops")
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            link, began = self._end.open(), elapsed()
            with self._errors():
                result = self._introduce(made, link, end)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        finally:
            self._open.discard(made)
        return Opened(made, link, result, began)

    def stop(self) -> None:
        """End what is being opened; callable from any thread."""
        self._stopped = True
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _introduce(self, made: socket.socket, link: Link, end: float) -> AttestationResult:
        talk = self._end.introduce(link)
        try:
            wants = next(talk)
            while True:
                if sealed := link.pending():
                    made.settimeout(_seconds_left(end))
                    made.sendall(sealed)
                heard = b""
                if wants:
                    made.settimeout(_seconds_left(end))
                    heard = made.recv(CHUNK)
                    if not heard and not link.established:
                        raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")
                    if not heard:
                        raise AuthenticityError(
                            "evidence: want an answer, got the end",
                            hint="is an enclave of Kluis's at this address, and nothing in between?",
                            code="channel_evidence",
                        )
                wants = talk.send(heard)
        except StopIteration as stop:
            result: AttestationResult = stop.value
            return result

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            problem = f"no answer in {self._seconds:g} seconds"
        except OSError as error:
            problem = error.strerror or str(error)
        else:
            return
        raise UnavailableError(
            f"enclave https://{self._host}:{self._port}: {problem}",
            hint="is the enclave serving, and is this its address?",
            code="connect_unreachable",
        ) from None


def _seconds_left(end: float) -> float:
    """Seconds until the end.

    Raises:
        TimeoutError: there are none.
    """
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
