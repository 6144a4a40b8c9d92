"""Bodies on their way: in the pieces in which they arrive, framed again for the next hop.

A body with a length is counted. The data of a chunked one is taken out of its chunks, and each piece is
written as one chunk; extensions and trailers are dropped. Spec: RFC 9112, "Message Body Length", "Chunked
Transfer Coding".
"""

from __future__ import annotations

import re
from typing import Final

from kluis.connect.heads import MalformedError

LAST: Final = b"0\r\n\r\n"
MOST_LINE: Final = 4 << 10
"""Bytes of a chunk's first line with its extensions."""
MOST_TRAILER: Final = 16 << 10
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t \x21-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t \x21-\x7e\x80-\xff]*")


class Body:
    """One body, in one direction.

    Attributes:
        done: whether its end was read.

    Args:
        length: in bytes; None if it is chunked, or ends with its connection.
        chunked: whether it arrives in chunks.
        as_chunks: whether it goes on in chunks.
    """

    def __init__(self, length: int | None, *, chunked: bool, as_chunks: bool) -> None:
        self.done = length == 0 and not chunked
        self._left = length
        self._chunks = Chunks() if chunked else None
        self._as_chunks = as_chunks

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes of the body.

        Returns:
            Bytes for the next hop; and what follows the end of the body.

        Raises:
            MalformedError: it is not chunked, as it should be.
        """
        if self._chunks is not None:
            pieces, rest = self._chunks.read(data)
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.done = self._chunks.done
            if self._as_chunks:
                data = chunk(data) + LAST if self.done else chunk(data)
            return data, rest
        if self._left is None:
            return (chunk(data) if self._as_chunks else data), b""
        left = self._left
        self._left = left - len(data)
        if self._left > 0:
            return data, b""
        self.done, self._left = True, 0
        return (data, b"") if len(data) == left else (data[:left], data[left:])

    def end(self) -> bytes | None:
        """What ends a body that ends with its connection; None if it is cut short."""
        if self._left is not None or self._chunks is not None:
            return None
        self.done = True
        return LAST if self._as_chunks else b""


def chunk(data: bytes) -> bytes:
    """Write a piece of a body as one chunk; empty data has none."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class Chunks:
    """Reads one chunked body.

    Attributes:
        done: whether its end was read.
    """

    def __init__(self) -> None:
        self.done = False
        self._held = b""
        self._left = 0
        self._after = False
        self._trailer: int | None = None

    def read(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Read more of the body.

        Returns:
            The data of its chunks, in pieces; and what follows the end of the body.

        Raises:
            MalformedError: it is not chunked.
        """
        pieces: list[bytes] = []
        data, self._held = self._held + data, b""
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after = not self._left
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > MOST_LINE:
                    raise MalformedError(f"chunk: want a line of at most {MOST_LINE} bytes, got more")
                self._held = data[at:]
                return pieces, b""
            self._line(data[at:end])
            at = end + 2
        return pieces, data[at:]

    def _line(self, line: bytes) -> None:
        """Read a line between two pieces of data, or of the trailer."""
        if self._after:
            if line:
                raise MalformedError("chunk: want its end, got more data")
            self._after = False
        elif self._trailer is None:
            match = _SIZE.fullmatch(line) if len(line) <= MOST_LINE else None
            if match is None:
                raise MalformedError(f"chunk: want a size, got {line[:80]!a}")
            self._left = int(match[1], 16)
            if not self._left:
                self._trailer = MOST_TRAILER
        elif not line:
            self.done = True
        else:
            self._trailer -= len(line)
            if self._trailer < 0 or not _TRAILER.fullmatch(line):
                raise MalformedError(f"trailer: want fields of at most {MOST_TRAILER} bytes, got another")
