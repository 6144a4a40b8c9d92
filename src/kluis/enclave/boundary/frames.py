"""Frames: the messages of calls between host and enclave, on two SOCK_SEQPACKET sockets.

A frame is one MessagePack array. Its first item is its kind, its second the id of its call:

| to the enclave                     | to the host                                           |
|------------------------------------|-------------------------------------------------------|
| ``[n >= 0, call, arguments...]``   | ``[0, call, result]`` return                          |
| ``[-1, ocall, result]`` return     | ``[1, call, type, message, traceback, code, hint]``   |
| ``[-2, ocall, type, message]``     | ``[16 + n, ocall, arguments...]`` ocall number n      |
| ``[-3, call]`` cancel              | ``[2, 0, interface digest]`` ready                    |
| ``[-4, call, nonce, app_data]``    | ``[3, 0, type, message, traceback]`` will not start   |

The *calls* socket carries one call at a time to one waiting thread, and every answer; it never carries
descriptors. The *control* socket carries everything else from the host: concurrent calls, answers to ocalls,
cancellations, and frames with descriptors. A frame of more than ``INLINE`` bytes is put into a sealed memory
file, and ``LARGE`` and the call's id are sent instead; the file comes first among the descriptors, followed
by tables. To the host such a frame goes on the control socket, and the byte ``LARGE`` on the calls socket
announces it.

Where no descriptors pass, two streams take the place of the sockets: :mod:`kluis.streams`. The content of a
memory file follows as chunks, and becomes a sealed memory file of the receiver. There are two because with
everything on one a thread would have to read for all and pass each call on. They have no common order: an
enclave announces a parcel before it sends it, since the host reads the control stream only then.
"""

from __future__ import annotations

import _socket as socket  # the methods and constants of socket, and half of its start
import os
from collections.abc import Callable, Sequence
from sys import byteorder
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec

from kluis.enclave.boundary import memfile
from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE

if TYPE_CHECKING:
    from kluis.streams import Stream

INLINE = 64 * 1024
LARGE = b"\xc1"
MAX_FILES = 16
LARGEST = 1 << 40
"""For files of this process's own."""
FIRST_OCALL = 16

RETURN = 0
RAISED = 1
READY = 2
FAILED = 3
OCALL_RETURN = -1
OCALL_RAISED = -2
CANCEL = -3
EVIDENCE = -4

Frame: TypeAlias = bytes | bytearray

_encoder = msgspec.msgpack.Encoder()
encode_short = _encoder.encode
"""Encode a frame known to be less than 32 bytes."""


def encode(items: object) -> bytearray:
    """Encode a frame.

    Into an own buffer: msgspec 0.22's ``encode`` crashes the process if its buffer cannot grow.
    """
    buffer = bytearray(128)
    _encoder.encode_into(items, buffer)
    return buffer


class Head(msgspec.Struct, array_like=True, frozen=True):
    """The first two items of any frame; the rest is ignored."""

    kind: int
    id: int


head = msgspec.msgpack.Decoder(Head).decode


class Raised(msgspec.Struct, array_like=True, tag=RAISED, tag_field="kind", forbid_unknown_fields=True):
    """A call ended in an exception, reduced to what may leave the enclave."""

    id: int
    type: str
    message: str
    traceback: str | None
    code: str | None
    hint: str | None


class Ready(msgspec.Struct, array_like=True, tag=READY, tag_field="kind", forbid_unknown_fields=True):
    """The application is loaded, and its interface is the measured one (SHA-256, 32 bytes)."""

    id: int
    interface: bytes


class Failed(msgspec.Struct, array_like=True, tag=FAILED, tag_field="kind", forbid_unknown_fields=True):
    """The application cannot be started."""

    id: int
    type: str
    message: str
    traceback: str | None
    hint: str | None = None


class OcallRaised(
    msgspec.Struct, array_like=True, tag=OCALL_RAISED, tag_field="kind", forbid_unknown_fields=True
):
    """The host's function raised."""

    id: int
    type: str
    message: str


class Cancel(msgspec.Struct, array_like=True, tag=CANCEL, tag_field="kind", forbid_unknown_fields=True):
    """The host cancels a call."""

    id: int


class EvidenceRequest(
    msgspec.Struct, array_like=True, tag=EVIDENCE, tag_field="kind", forbid_unknown_fields=True
):
    """The host requests evidence with purpose ``cli``: nonce of 0..64 bytes, payload up to 128 KiB."""

    id: int
    nonce: bytes
    app_data: bytes


class Parcel:
    """A frame and its descriptors, which the receiver must close.

    Attributes:
        frame: encoded.
        files: descriptors.
        held: arguments decoded from both, which are released after the answer: unmapping a table takes longer
            than sending a small answer.
    """

    __slots__ = ("files", "frame", "held")

    def __init__(self, frame: Frame | memoryview, files: tuple[int, ...] = ()) -> None:
        self.frame = frame
        self.files = files
        self.held: object = None

    def close(self) -> None:
        """Close the descriptors; safe to repeat."""
        files, self.files = self.files, ()
        for descriptor in files:
            os.close(descriptor)


class LostFrame(FormatError):
    """A frame that cannot be opened.

    Attributes:
        call: its id as stated by the sender, or 0.
    """

    def __init__(self, parcel: Parcel, problem: str) -> None:
        super().__init__(f"frame: {problem}", code="lost")
        try:
            data = parcel.frame
            self.call = _call_id(data[1:]) if data[:1] == LARGE else head(data).id
        except UNREADABLE:
            self.call = 0


def send_parcel(sock: socket.socket | Stream, call: int, frame: Frame, files: Sequence[int] = ()) -> None:
    """Send a frame of any size, with descriptors that the caller keeps.

    Args:
        sock: the control socket or stream.
        call: its id, for a receiver that cannot open the frame.
        frame: encoded.
        files: of its tables.

    Raises:
        OSError: the other side has closed, or no memory file can be created.
    """
    if not isinstance(sock, socket.socket):
        _stream_parcel(sock, call, frame, files, None)
        return
    if len(frame) <= INLINE:
        _send(sock, frame, files)
        return
    body = memfile.of_bytes(frame)
    try:
        _send(sock, LARGE + encode_short(call), (body, *files))
    finally:
        os.close(body)


def send_announced(
    calls: socket.socket | Stream,
    control: socket.socket | Stream,
    call: int,
    frame: Frame,
    files: Sequence[int],
) -> None:
    """Send a parcel to the host and announce it on the calls socket; one caller at a time.

    Raises:
        OSError, MemoryError: as for :func:`send_parcel`.
    """
    if isinstance(calls, socket.socket) or isinstance(control, socket.socket):
        send_parcel(control, call, frame, files)
        calls.send(LARGE)
    else:
        # First: a parcel may be larger than what a stream holds, and the host reads it once it is announced.
        _stream_parcel(control, call, frame, files, lambda: calls.send(LARGE))


def receive_parcel(sock: socket.socket | Stream, max_bytes: int, flags: int = 0) -> Parcel | None:
    """Receive a frame of any size and its descriptors.

    Args:
        sock: the control socket or stream.
        max_bytes: the largest accepted frame.
        flags: MSG_DONTWAIT if it was announced, or 0.

    Returns:
        None when the other side has closed.

    Raises:
        LostFrame: too large, cut short, or its memory file is not sealed; the descriptors are closed.
        OSError: the other side has closed.
    """
    parcel = receive_sealed(sock, flags)
    if parcel is None:
        return None
    try:
        open_parcel(parcel, max_bytes)
    except BaseException:
        parcel.close()
        raise
    return parcel


def receive_sealed(sock: socket.socket | Stream, flags: int = 0) -> Parcel | None:
    """Receive a frame without opening a memory file; raises the errors of :func:`receive_parcel`."""
    if not isinstance(sock, socket.socket):
        # Two streams have no common order: what is announced on one of them may still be on its way.
        return _receive_streamed(sock, announced=bool(flags & socket.MSG_DONTWAIT))
    data, ancillary, message_flags, _ = sock.recvmsg(INLINE, ANCILLARY, flags | socket.MSG_CMSG_CLOEXEC)
    if not data and not ancillary:
        return None
    parcel = Parcel(data, tuple(_descriptors(ancillary)))
    if message_flags & socket.MSG_TRUNC:
        parcel.close()
        raise LostFrame(parcel, f"is more than {INLINE} bytes")
    if message_flags & socket.MSG_CTRUNC:
        parcel.close()
        raise LostFrame(parcel, f"came with more than {MAX_FILES} files, or than can be opened")
    if len(parcel.files) > MAX_FILES:
        count = len(parcel.files)
        parcel.close()
        raise LostFrame(parcel, f"want at most {MAX_FILES} files, got {count}")
    return parcel


def open_parcel(parcel: Parcel, max_bytes: int) -> None:
    """Replace a frame by the content of its memory file, if it has one.

    Raises:
        LostFrame: the file is missing, not sealed or too large.
        MemoryError: there is not enough memory now; a retry may succeed.
    """
    if parcel.frame[:1] != LARGE:
        return
    if not parcel.files:
        raise LostFrame(parcel, "its memory file is missing")
    body, *rest = parcel.files
    try:
        frame = memfile.map_bytes(body, max_bytes, "frame")
    except FormatError as error:
        raise LostFrame(parcel, error.message.removeprefix("frame: ")) from None
    parcel.frame, parcel.files = frame, tuple(rest)
    os.close(body)


def _stream_parcel(
    stream: Stream, call: int, frame: Frame, files: Sequence[int], announce: Callable[[], object] | None
) -> None:
    if len(frame) <= INLINE and not files:
        stream.send(frame)
        return
    bodies = [frame, *(memfile.map_bytes(one, LARGEST, "table") for one in files)]
    stream.send_parcel(call, bodies, announce)


def _receive_streamed(stream: Stream, *, announced: bool) -> Parcel | None:
    from kluis.parcels import RefusedParcel

    try:
        received = stream.receive(announced=announced)
    except RefusedParcel as refused:
        raise LostFrame(Parcel(LARGE + encode_short(refused.call)), refused.problem) from None
    if received is None:
        return None
    return Parcel(received.frame or LARGE + encode_short(received.call), received.files)


def _send(sock: socket.socket, data: Frame, files: Sequence[int]) -> None:
    if not files:
        sock.send(data)
        return
    sock.sendmsg(
        [data],
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(one.to_bytes(4, byteorder) for one in files))],
    )


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.extend(int.from_bytes(data[i : i + 4], byteorder) for i in range(0, len(data) - 3, 4))
    return descriptors


_call_id = msgspec.msgpack.Decoder(Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]).decode
ANCILLARY: Any = socket.CMSG_SPACE(4 * (MAX_FILES + 1))
