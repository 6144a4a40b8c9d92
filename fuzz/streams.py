"""What crosses into a machine and out of it: records of streams, messages, heads of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from kluis.errors import FormatError
from kluis.formats.kluis import machine_key
from kluis.formats.kluis.machine_key import Offer, Open, Opened, Refused
from kluis.parcels import RefusedParcel
from kluis.streams import CHUNK, FRAME, PARCEL, BrokenStream, Stream
from kluis.tee.remote import messages

Reader = tuple[str, Callable[[bytes], Any], Callable[[], list[bytes]]]


def readers() -> Iterator[Reader]:
    """Each reader: its name, the function, and inputs to begin from."""
    yield "streams.receive", receive, _streams
    yield "tee.remote.messages.parse", messages.parse, _messages
    yield "machine_key.read_request", machine_key.read_request, _requests
    yield "machine_key.read_reply", machine_key.read_reply, _replies


def receive(data: bytes) -> list[list[int]]:
    """Read a stream to its end: the sizes of each frame's or parcel's files.

    Raises:
        FormatError: it violates the format.
    """
    # A file has an end, and does not block: it takes a stream's place for read(2) and poll(2).
    descriptor = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    os.pwrite(descriptor, data, 0)
    stream = Stream(descriptor)
    found: list[list[int]] = []
    try:
        while True:
            try:
                received = stream.receive()
            except RefusedParcel as refused:
                if not refused.problem:
                    raise
                continue
            if received is None:
                return found
            found.append([len(received.frame), *(os.fstat(one).st_size for one in received.files)])
            for one in received.files:
                os.close(one)
    except BrokenStream as broken:
        raise FormatError(str(broken.strerror)) from None
    finally:
        stream.close()


def _record(number: int, kind: int, body: bytes) -> bytes:
    return (number << 32 | kind << 24 | len(body)).to_bytes(8, "little") + body


def _streams() -> list[bytes]:
    head = b"".join(size.to_bytes(8, "little") for size in (7, 3, 5))
    large = b"".join(size.to_bytes(8, "little") for size in (7, 1 << 40))
    parcel = _record(0, PARCEL, head) + _record(1, CHUNK, b"abc") + _record(2, CHUNK, b"12345")
    return [
        _record(0, FRAME, b"a") + _record(1, FRAME, b"b"),
        parcel,
        parcel + _record(3, FRAME, b"after"),
        _record(0, PARCEL, large) + _record(1, CHUNK, b"abc"),
    ]


def _requests() -> list[bytes]:
    return [_body(Offer(b"nonce")), _body(Open(bytes(256), "rsaes"))]


def _replies() -> list[bytes]:
    return [_body(Opened(b"value")), _body(Refused("usage", "words"))]


def _body(message: machine_key.Request | machine_key.Reply) -> bytes:
    return machine_key.encode(message)[machine_key.SIZE_BYTES :]


def _messages() -> list[bytes]:
    return [b"{}", b'{"op":"hello"}', b'{"as":"calls","launch":"0123456789abcdef","op":"join"}']
