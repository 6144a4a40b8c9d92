"""The proxy's readers against h11: whatever ours accepts, h11 accepts, with the same meaning."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.connect.bodies import LAST, Body, chunk
from kluis.connect.heads import MalformedError, read_request, read_response
from tests.strategies import PROPERTY, examples, mutations

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*",
    b"POST /a?b=c HTTP/1.1\r\nHost: localhost:80\r\nContent-Length: 12\r\nConnection: close, x\r\nX: ",
    b"PUT /a HTTP/1.1\r\nhost:localhost\r\nTransfer-Encoding: chunked\r\nCookie: a=b; c=d \t",
    b"GET / HTTP/1.0\r\nHost: localhost\r\nAccept: */*\r\nAccept: a",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nUpgrade: websocket\r\nConnection: Upgrade",
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\ndate: now",
    b"HTTP/1.1 204 \r\nX: y",
    b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nConnection: close",
    b"HTTP/1.0 302 Found\r\nLocation: /",
)


@PROPERTY
@given(mutations(*REQUESTS))
def test_requests_are_what_h11_reads(head: bytes) -> None:
    """Method, target, fields and the length of the body are the same; or ours refuses."""
    try:
        ours = read_request(head)
    except MalformedError:
        return
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(head + b"\r\n\r\n")
    event = theirs.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (ours.method, ours.target)
    assert [name for name, _ in event.headers] == [name for name, _ in ours.fields.lines]
    assert dict(event.headers) == ours.fields.values
    _same_framing(ours.fields.length, ours.fields.chunked, dict(event.headers))


@PROPERTY
@given(mutations(*RESPONSES))
def test_responses_are_what_h11_reads(head: bytes) -> None:
    """Status, fields and the length of the body are the same; or ours refuses."""
    try:
        ours = read_response(head)
    except MalformedError:
        return
    theirs = h11.Connection(h11.CLIENT)
    theirs.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    theirs.receive_data(head + b"\r\n\r\n")
    try:
        event = theirs.next_event()
    except h11.RemoteProtocolError:
        assert ours.status == 101  # h11 wants a request for it, as Reply does
        return
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert event.status_code == ours.status
    assert dict(event.headers) == ours.fields.values
    _same_framing(ours.fields.length, ours.fields.chunked, dict(event.headers))


def _same_framing(length: int | None, chunked: bool, fields: dict[bytes, bytes]) -> None:
    stated = fields.get(b"content-length")
    assert (None if stated is None else int(stated)) == length
    assert (fields.get(b"transfer-encoding", b"").lower() == b"chunked") == chunked


@st.composite
def chunked(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A chunked body, and its data."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    extension = draw(st.sampled_from((b"", b";a=b", b" ; a", b"\t")))
    trailer = draw(st.sampled_from((b"", b"X: y\r\n", b"X: y\r\nZ:\r\n")))
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in pieces)
    return body + b"0%b\r\n%b\r\n" % (extension, trailer), b"".join(pieces)


@PROPERTY
@given(chunked(), st.lists(st.integers(0, 60), max_size=12))
def test_chunks_in_any_pieces(body: tuple[bytes, bytes], cuts: list[int]) -> None:
    """However a body arrives, its data go on, and what follows it does not."""
    sent = body[0] + b"GET / next"
    reader = Body(None, chunked=True, as_chunks=False)
    got, left, at = b"", b"", 0
    for size in [*cuts, len(sent)]:
        part, at = sent[at : at + size], at + size
        if reader.done:
            left += part
            continue
        data, rest = reader.read(part)
        got, left = got + data, left + rest
    assert reader.done
    assert (got, left) == (body[1], b"GET / next")


@settings(PROPERTY, max_examples=examples(400))
@given(mutations(b"4\r\nbody\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"))
def test_chunks_are_what_h11_reads(body: bytes) -> None:
    """Whatever ours takes for a whole body, h11 does too, with the same data and the same end."""
    reader = Body(None, chunked=True, as_chunks=True)
    try:
        written, rest = reader.read(body)
    except MalformedError:
        return
    if not reader.done:  # h11 looks at the end of a chunk before it is whole
        return
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    theirs.next_event()
    theirs.receive_data(body)
    data, whole = _data(theirs)
    assert whole
    assert written == chunk(data) + LAST
    assert theirs.trailing_data[0] == rest


def _data(connection: h11.Connection) -> tuple[bytes, bool]:
    got = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            got += bytes(event.data)
        else:
            return got, isinstance(event, h11.EndOfMessage)


def test_a_body_that_is_counted() -> None:
    """A body with a length ends there; one without it ends with its connection."""
    body = Body(4, chunked=False, as_chunks=False)
    assert body.read(b"bo") == (b"bo", b"")
    assert body.end() is None
    assert body.read(b"dynext") == (b"dy", b"next")
    assert body.done
    endless = Body(None, chunked=False, as_chunks=True)
    assert endless.read(b"body") == (b"4\r\nbody\r\n", b"")
    assert endless.end() == LAST


@pytest.mark.parametrize("size", [b"1" * 5000, b"fffffffffffffffff\r\n", b"1;" + b"a" * 5000 + b"\r\n"])
def test_a_size_that_is_too_long(size: bytes) -> None:
    """The line of a chunk has a largest size, whether it ends or not."""
    with pytest.raises(MalformedError, match=r"^chunk: want"):
        Body(None, chunked=True, as_chunks=True).read(size)


def test_a_trailer_that_is_too_long() -> None:
    """A trailer has a largest size."""
    reader = Body(None, chunked=True, as_chunks=True)
    with pytest.raises(MalformedError, match=r"^trailer: want"):
        reader.read(b"0\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 20)


@pytest.mark.parametrize("line", [b"X:" + b" " * 30_000 + b"\x00", b"X:" + b" a" * 15_000 + b"\x00"])
def test_a_field_costs_no_more_than_its_length(line: bytes) -> None:
    """No field takes longer to refuse than to read: the pattern does not go back."""
    with pytest.raises(MalformedError, match=r"^field: want"):
        read_request(b"GET / HTTP/1.1\r\nHost: a\r\n" + line)
