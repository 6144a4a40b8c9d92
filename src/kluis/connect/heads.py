"""Heads of HTTP/1.1 messages: the first line and the fields, read strictly, and written for the next hop.

What two readers could understand differently is refused: folded lines, line ends without CR, a body with two
lengths, a second ``Host``. A head is read once, and its accepted lines go on as they are, without those that
belong to one connection only. docs/decisions/0037-a-proxy-reads-heads.md compares this reader with h11.
Spec: RFC 9112, "Message Format", "Message Body Length"; RFC 9110, "Fields", "Connection".
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from kluis.errors import FormatError

MOST_FIELDS: Final = 100
END: Final = b"\r\n\r\n"
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/1\.([01])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\t \x21-\x7e\x80-\xff]*+)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t \x21-\x7e\x80-\xff]*+)")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"content-length", b"host",
})  # fmt: skip
"""Fields of one hop: ``Host`` and the framing are written again from what was read."""


class MalformedError(FormatError):
    """A message that is refused, because it is not HTTP/1.1, or two readers could understand it differently.

    Attributes:
        status: of the answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(slots=True)
class Fields:
    """The fields of a head.

    Attributes:
        lines: each field's line, under its name in lower case, in their order.
        values: the value of each name; of several fields with one name, the last.
        repeated: names that occur more than once.
        listed: the names and options of ``Connection``, in lower case.
        length: of ``Content-Length``; None if there is no such field.
        chunked: whether the body is chunked.
    """

    lines: list[tuple[bytes, bytes]]
    values: dict[bytes, bytes]
    repeated: frozenset[bytes]
    listed: frozenset[bytes]
    length: int | None
    chunked: bool

    def lines_without(self, without: frozenset[bytes] = frozenset()) -> list[bytes]:
        """The lines that the next hop gets, without those of this hop."""
        dropped = HOP_BY_HOP | self.listed | without if self.listed or without else HOP_BY_HOP
        return [line for name, line in self.lines if name not in dropped]


@dataclasses.dataclass(slots=True)
class Request:
    """A request's head.

    Attributes:
        method: a token.
        target: as it was sent.
        old: whether it is HTTP/1.0, without chunks and persistent connections.
        fields: of the head; its ``Host`` occurs once.
    """

    method: bytes
    target: bytes
    old: bool
    fields: Fields

    @property
    def persistent(self) -> bool:
        """Whether the client may send another request on its connection."""
        return not self.old and b"close" not in self.fields.listed

    @property
    def websocket(self) -> bool:
        """Whether it requests a WebSocket."""
        values = self.fields.values
        return (
            b"upgrade" in self.fields.listed
            and values.get(b"upgrade", b"").lower() == b"websocket"
            and self.method == b"GET"
            and not self.old
            and not self.fields.length
            and not self.fields.chunked
        )


@dataclasses.dataclass(slots=True)
class Response:
    """A response's head.

    Attributes:
        line: the status line.
        status: 100 to 599.
        fields: of the head.
    """

    line: bytes
    status: int
    fields: Fields


def read_request(head: bytes) -> Request:
    """Read a request's head, without its last empty line.

    Raises:
        MalformedError: it is not one, or could be understood in two ways.
    """
    first, *lines = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise MalformedError(f"request line: want METHOD TARGET HTTP/1.1, got {first[:80]!a}")
    method, target, minor = match.groups()
    fields = _fields(lines)
    if b"host" not in fields.values or b"host" in fields.repeated:
        count = sum(name == b"host" for name, _ in fields.lines)
        raise MalformedError(f"host: want one field, got {count}")
    if minor == b"0" and fields.chunked:
        raise MalformedError("transfer-encoding: want HTTP/1.1, got HTTP/1.0")
    return Request(method, target, minor == b"0", fields)


def read_response(head: bytes) -> Response:
    """Read a response's head, without its last empty line.

    Raises:
        MalformedError: it is not one, or could be understood in two ways.
    """
    first, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise MalformedError(f"status line: want HTTP/1.1 STATUS, got {first[:80]!a}")
    return Response(first, int(match[1]), _fields(lines))


def _fields(lines: list[bytes]) -> Fields:
    if len(lines) > MOST_FIELDS:
        raise MalformedError(f"head: want at most {MOST_FIELDS} fields, got {len(lines)}", 431)
    fields: list[tuple[bytes, bytes]] = []
    values: dict[bytes, bytes] = {}
    repeated: set[bytes] = set()
    listed: list[bytes] = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise MalformedError(f"field: want NAME: VALUE on one line, got {line[:80]!a}")
        name, value = match[1].lower(), match[2].strip(b"\t ")
        if name in values:
            repeated.add(name)
        if name == b"connection":
            listed += [each.strip().lower() for each in value.split(b",")]
        values[name] = value
        fields.append((name, line))
    return Fields(fields, values, frozenset(repeated), frozenset(listed), *_framing(values, repeated))


def _framing(values: dict[bytes, bytes], repeated: set[bytes]) -> tuple[int | None, bool]:
    """The length that the fields state, and whether the body is chunked."""
    length, coding = values.get(b"content-length"), values.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise MalformedError("body: want its length said once, got content-length and transfer-encoding")
        if b"transfer-encoding" in repeated or coding.lower() != b"chunked":
            raise MalformedError(f"transfer-encoding: want chunked, got {coding[:80]!a}", 501)
        return None, True
    if length is None:
        return None, False
    if b"content-length" in repeated or not _LENGTH.fullmatch(length):
        raise MalformedError(f"content-length: want one number, got {length[:80]!a}")
    return int(length), False
