"""One response of the enclave, on its way to the client."""

from __future__ import annotations

from kluis.connect.admission import Admission
from kluis.connect.bodies import Body
from kluis.connect.heads import END, MalformedError, Request, Response, read_response

MOST_HEAD = 64 << 10
MOST_INTERIM = 16
"""Responses of status 1xx before the one that answers."""
SWITCHING = 101


class Reply:
    """Reads a response, and writes it for the client.

    Attributes:
        begun: whether the client got any of it.
        done: whether it is whole.
        switched: whether the enclave accepted the WebSocket: what follows is not HTTP.
        persistent: whether the enclave's connection carries another request after it.

    Args:
        request: that it answers.
        admission: writes its head.
    """

    def __init__(self, request: Request, admission: Admission) -> None:
        self.begun = False
        self.done = False
        self.switched = False
        self.persistent = True
        self._request = request
        self._admission = admission
        self._held = b""
        self._interim = 0
        self._body: Body | None = None

    def read(self, plain: bytes) -> bytes:
        """Take bytes of the enclave; returns bytes for the client.

        Raises:
            MalformedError: it is no response to this request.
        """
        if self._body is not None:
            return self._rest(self._body, plain)
        written = b""
        while self._body is None:
            if self._held:
                plain, self._held = self._held + plain, b""
            end = plain.find(END, 0, MOST_HEAD)
            if end < 0:
                if len(plain) >= MOST_HEAD:
                    raise MalformedError(f"head: want at most {MOST_HEAD} bytes, got more")
                self._held = plain
                return written
            written += self._head(read_response(plain[:end]))
            plain = plain[end + len(END) :]
            if self.switched:
                return written + plain
        return written + self._rest(self._body, plain)

    def finish(self) -> bytes | None:
        """The end of a response that ends with its connection; None if it is cut short."""
        return None if self._body is None else self._body.end()

    def _head(self, response: Response) -> bytes:
        request, fields = self._request, response.fields
        if response.status < 200:
            return self._before(response)
        empty = request.method == b"HEAD" or response.status in (204, 304)
        sized = empty or fields.length is not None
        close = b"close" in fields.listed or response.line.startswith(b"HTTP/1.0")
        self.persistent = not close and (sized or fields.chunked)
        as_chunks = not sized and not request.old
        self._body = Body(
            0 if empty else fields.length, chunked=fields.chunked and not empty, as_chunks=as_chunks
        )
        more = [] if fields.length is None else [b"Content-Length: %d" % fields.length]
        if as_chunks:
            more.append(b"Transfer-Encoding: chunked")
        if not request.persistent:
            more.append(b"Connection: close")
        self.begun = True
        return self._admission.answer(response, more)

    def _before(self, response: Response) -> bytes:
        """A response before the one that answers."""
        if response.status == SWITCHING:
            if not self._request.websocket:
                raise MalformedError("status: want an answer, got 101 that nobody requested")
            self.switched = self.begun = True
            return self._admission.answer(response, [b"Connection: Upgrade", b"Upgrade: websocket"])
        self._interim += 1
        if self._interim > MOST_INTERIM:
            raise MalformedError(f"status: want an answer, got more than {MOST_INTERIM} of status 1xx")
        return b"" if self._request.old else self._admission.answer(response, [])

    def _rest(self, body: Body, plain: bytes) -> bytes:
        written, more = body.read(plain) if plain else (b"", b"")
        self.done = body.done
        if more:  # it answers nothing
            self.persistent = False
        return written
