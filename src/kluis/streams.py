"""Records over a byte stream: a port of a machine, AF_VSOCK, or an AF_UNIX stream, where no descriptors pass.

A record is a head of 8 bytes (u24 length, u8 kind, u32 number; little-endian) and a body of at most
``INLINE`` bytes. Records are numbered from 0 in each direction, so that one that is missing, repeated or out
of order ends the stream.

| kind         | body                                                             |
|--------------|------------------------------------------------------------------|
| 0 ``FRAME``  | a frame                                                          |
| 1 ``PARCEL`` | u64 call; u64 size of each of 1 to 17 files; their bytes follow  |
| 2 ``CHUNK``  | up to ``INLINE`` of these bytes, all of the same file            |

A parcel's bytes are put into sealed memory files as they arrive. Only read(2), write(2) and poll(2) are used,
because a port is a character device.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from typing import TYPE_CHECKING, Final, NoReturn

from kluis.parcels import Incoming, Place, Received, RefusedParcel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

INLINE: Final = 64 * 1024
MOST_FILES: Final = 17
FRAME, PARCEL, CHUNK = 0, 1, 2
HEAD_BYTES: Final = 8
SEGMENT_BYTES: Final = 4096
"""A port of a machine gives at most one of its buffers for each segment of a read, and stops after a part."""
NUMBERS: Final = (1 << 32) - 1
PATIENCE_SECONDS: Final = 120.0
"""How long the rest of a record or a parcel may be missing, and how long nothing may be read."""
FIRST_BYTES: Final = 1 << 20
"""The largest accepted file until ``most_bytes`` is set."""

Bytes = bytes | bytearray | memoryview


class BrokenStream(OSError):
    """The other end violated the format, or stalled; nothing more can be read or sent.

    Attributes:
        errno: EPROTO.
        strerror: the problem.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(errno.EPROTO, f"stream: {problem}")


class Stream:
    """One byte stream, with the methods of a socket that calls need. One thread may read, and any may send.

    Args:
        end: a descriptor, or a socket, which is set to non-blocking; closed with this.
        patience_seconds: as ``PATIENCE_SECONDS``.

    Attributes:
        patience_seconds: as ``PATIENCE_SECONDS``.
        most_bytes: of a frame or file in a parcel.
        problem: why the stream is broken; empty while it is not.
    """

    def __init__(self, end: int | socket.socket, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._socket = None if isinstance(end, int) else end
        self._fd = end if isinstance(end, int) else end.fileno()
        if self._socket is not None:
            self._socket.setblocking(False)
        self.patience_seconds = patience_seconds
        self.most_bytes = FIRST_BYTES
        self.problem = ""
        self._sending = threading.Lock()
        self._sent = self._received = 0
        self._torn = False  # a part of a record was sent, and its rest was not
        self._view = memoryview(
            bytearray(HEAD_BYTES + INLINE)
        )  # once: a full heap must not keep it from reading
        self._segments = [
            self._view[at : at + SEGMENT_BYTES] for at in range(0, len(self._view), SEGMENT_BYTES)
        ]
        self._start = self._end = 0
        self._size = 0  # of the record at _start, once it is complete
        self._incoming: Incoming | None = None
        self._in, self._out = select.poll(), select.poll()
        self._in.register(self._fd, select.POLLIN)
        self._out.register(self._fd, select.POLLOUT)

    def fileno(self) -> int:
        """Its descriptor; -1 once closed."""
        return self._fd

    def readable(self, seconds: float) -> bool:
        """Whether a record, or a part of one, can be read within that time."""
        return self._end > self._start or bool(self._in.poll(seconds * 1000))

    def restart(self) -> None:
        """Number records from 0 again, for another use of the stream that both ends have agreed on."""
        self._sent = self._received = 0

    def shutdown(self, how: int) -> None:
        """Shut a socket down, which ends its reader's wait."""
        if self._socket is not None:
            self._socket.shutdown(how)

    def close(self) -> None:
        """Close the descriptor; safe to repeat."""
        descriptor, self._fd = self._fd, -1
        if self._socket is not None:
            self._socket.close()
        elif descriptor >= 0:
            os.close(descriptor)
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None

    def send(self, frame: Bytes) -> None:
        """Send a frame of at most ``INLINE`` bytes.

        Raises:
            OSError: the other end has closed; BrokenStream: it reads nothing.
            MemoryError: nothing was sent; it can be repeated.
        """
        with self._sending:
            self._write(FRAME, frame)

    def send_parcel(
        self, call: int, bodies: Sequence[Bytes], announce: Callable[[], object] | None = None
    ) -> None:
        """Send a parcel.

        Args:
            call: its id, up to 2^63 - 1.
            bodies: the content of its files, none empty.
            announce: called first, when no other parcel is being sent.
        Raises the errors of :meth:`send`.
        """
        views = [memoryview(each) for each in bodies]
        head = b"".join(number.to_bytes(8, "little") for number in (call, *map(len, views)))
        with self._sending:
            if announce is not None:
                announce()
            self._write(PARCEL, head)
            for view in views:
                for at in range(0, len(view), INLINE):
                    self._write(CHUNK, view[at : at + INLINE])

    def recv(self, size: int) -> bytes:
        """Receive a frame; empty when the other end has closed.

        Raises:
            OSError, BrokenStream: as for :meth:`receive_sealed`.
        """
        body = self._frame(size)
        if body is None:
            return b""
        frame = bytes(body)
        self._drop()
        return frame

    def recv_into(self, buffer: bytearray) -> int:
        """Receive a frame into ``buffer``; return its size, 0 when the other end has closed."""
        body = self._frame(len(buffer))
        if body is None:
            return 0
        size = len(body)
        buffer[:size] = body
        self._drop()
        return size

    def receive(self, *, announced: bool = False, place: Place | None = None) -> Received | None:
        """Receive a frame or a parcel.

        Args:
            announced: it must come, so wait no longer than the patience.
            place: of a parcel's last file, which is then not one of those returned.

        Returns:
            None when the other end has closed.

        Raises:
            RefusedParcel: one of its files is larger than ``most_bytes``, or not of the size of its place, or
                no memory file can be made.
            BrokenStream: a record is not as described above, or its rest is missing for too long.
            OSError: the other end has closed.
            MemoryError: nothing is lost, and it can be repeated.
        """
        while True:
            record = self._peek(hasty=announced or self._incoming is not None)
            if record is None:
                if self._incoming is not None:
                    self._break("ended within a parcel")
                return None
            kind, body = record
            incoming = self._incoming
            if kind == FRAME and incoming is None:
                if not body:
                    self._break("a frame of no bytes")
                received = Received(bytes(body))
                self._drop()
                return received
            if kind == PARCEL and incoming is None:
                incoming = self._read_announcement(body, place)
                self._drop()
                self._incoming = incoming
                if incoming.refusal:
                    raise RefusedParcel(incoming.call, incoming.refusal)
            elif kind == CHUNK and incoming is not None:
                if not self._fits(incoming, body):
                    self._break(f"a chunk of {len(body)} bytes, which its file has no room for")
                self._drop()
            else:
                self._break(f"want {'a chunk' if incoming else 'a frame or a parcel'}, got kind {kind}")
            if not incoming.left:
                self._incoming = None
                if not incoming.refusal:
                    return Received(b"", incoming.call, incoming.seal())

    def _read_announcement(self, body: memoryview, place: Place | None) -> Incoming:
        numbers = [int.from_bytes(body[at : at + 8], "little") for at in range(0, len(body), 8)]
        sizes = numbers[1:]
        if len(body) % 8 or not 1 <= len(sizes) <= MOST_FILES or not all(sizes):
            self._break(f"a parcel with a head of {len(body)} bytes: want 1 to {MOST_FILES} sizes above 0")
        return Incoming(numbers[0], sizes, self.most_bytes, place)

    def _fits(self, incoming: Incoming, body: memoryview) -> bool:
        try:
            return incoming.take(body)
        except OSError as error:
            incoming.refusal = f"no memory file can be made: {error.strerror}"
            incoming.close()
            raise RefusedParcel(incoming.call, incoming.refusal) from None

    def _frame(self, size: int) -> memoryview | None:
        record = self._peek()
        if record is None:
            return None
        kind, body = record
        if kind != FRAME or not 0 < len(body) <= size:
            self._break(f"want a frame of 1 to {size} bytes, got kind {kind} with {len(body)}")
        return body

    def _peek(self, *, hasty: bool = False) -> tuple[int, memoryview] | None:
        """The next record, whose body is valid until it is dropped; None when the other end has closed."""
        if self.problem:
            raise BrokenStream(self.problem)
        while True:
            start, have = self._start, self._end - self._start
            size = HEAD_BYTES
            if have >= HEAD_BYTES:
                head = int.from_bytes(self._view[start : start + HEAD_BYTES], "little")
                if head >> 32 != self._received or head & 0xFFFFFF > INLINE:
                    self._refuse_number(head)
                size += head & 0xFFFFFF
                if have >= size:
                    self._size = size
                    return head >> 24 & 0xFF, self._view[start + HEAD_BYTES : start + size]
            if start + size > len(self._view):
                self._view[:have] = bytes(self._view[start : self._end])
                self._start, self._end = 0, have
            if not self._fill(hasty=hasty or bool(have)):
                if have:
                    self._break("ended within a record")
                return None

    def _refuse_number(self, head: int) -> NoReturn:
        size, got = head & 0xFFFFFF, head >> 32
        if size > INLINE:
            self._break(f"a record of {size} bytes, want at most {INLINE}")
        self._break(f"want record {self._received}, got {got}: one is missing, repeated or out of order")

    def _drop(self) -> None:
        """Take the record off the stream that :meth:`_peek` returned."""
        self._received = self._received + 1 & NUMBERS
        self._start += self._size
        if self._start == self._end:
            self._start = self._end = 0

    def _fill(self, *, hasty: bool) -> int:
        """Read more; return the number of bytes, 0 when the other end has closed."""
        wait = self.patience_seconds * 1000 if hasty else None
        while True:
            if not self._in.poll(wait):
                self._break(f"the rest is missing for {self.patience_seconds:g} s")
            try:
                size = os.readv(self._fd, self._room(hasty=hasty))
            except BlockingIOError:
                continue
            self._end += size
            return size

    def _room(self, *, hasty: bool) -> Sequence[memoryview]:
        """The rest of the view, in segments if more than one may be there."""
        whole, cut = divmod(self._end, SEGMENT_BYTES)
        if not cut:
            return self._segments[whole:]
        if not hasty:
            return (self._view[self._end :],)
        return [
            self._view[at : at + SEGMENT_BYTES] for at in range(self._end, len(self._view), SEGMENT_BYTES)
        ]

    def _write(self, kind: int, body: Bytes) -> None:
        """Write one record; the caller holds the lock."""
        if self.problem or self._torn:
            raise BrokenStream(self.problem or "a record could not be sent whole")
        head = (self._sent << 32 | kind << 24 | len(body)).to_bytes(HEAD_BYTES, "little")
        try:
            done = os.writev(self._fd, (head, body))
        except BlockingIOError:
            done = 0
        if done < HEAD_BYTES + len(body):
            self._write_rest(memoryview(head), memoryview(body), done)
        self._sent = self._sent + 1 & NUMBERS

    def _write_rest(self, head: memoryview, body: memoryview, done: int) -> None:
        size = HEAD_BYTES + len(body)
        while done < size:
            self._torn = done > 0
            if not self._out.poll(self.patience_seconds * 1000):
                self._break(f"nothing was read for {self.patience_seconds:g} s")
            try:
                done += os.writev(self._fd, (head[done:], body[max(0, done - HEAD_BYTES) :]))
            except BlockingIOError:
                continue
        self._torn = False

    def _break(self, problem: str) -> NoReturn:
        self.problem = problem
        raise BrokenStream(problem)
