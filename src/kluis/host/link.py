"""The host's end of a running enclave: sends calls and receives answers, from any number of threads.

There is no reader thread. A thread that waits for an answer and finds the calls socket free reads it, keeps
its own answer and delivers the others; when it leaves, it wakes one of them to continue reading. If the
enclave's waiting thread is free, a call goes to it directly, otherwise through the control socket. Spec:
:mod:`kluis.enclave.boundary.frames`.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from kluis.enclave.boundary import frames
from kluis.enclave.boundary.codec import Codec
from kluis.enclave.boundary.frames import Frame, Parcel
from kluis.errors import CallTimeout, EnclaveDied, EnclaveError, FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.streams import Stream


class _Waiter:
    """One waiting call: filled with its answer, or woken to read for all."""

    __slots__ = ("parcel", "turn")

    def __init__(self) -> None:
        self.parcel: Parcel | None = None
        self.turn = threading.Lock()
        self.turn.acquire()

    def wake(self) -> None:
        if self.turn.locked():
            try:
                self.turn.release()
            except RuntimeError:  # two woke it at once
                return


class Link:
    """Both sockets of one enclave, or both streams.

    Args:
        calls: SOCK_SEQPACKET, or a stream.
        control: likewise.
        max_bytes: the largest frame accepted from the enclave.
        on_ocall: called with each ocall, in any reading thread; must not block. If its second argument is
            true, it may return a function, which that thread then runs while others read.
        last_words: returns why the enclave ended.
    """

    def __init__(
        self,
        calls: socket.socket | Stream,
        control: socket.socket | Stream,
        max_bytes: int,
        on_ocall: Callable[[Parcel, bool], Callable[[], None] | None],
        last_words: Callable[[], str],
    ) -> None:
        self.ids = itertools.count(1)
        self._calls = calls
        self._control = control
        self._max_bytes = max_bytes
        self._on_ocall = on_ocall
        self._last_words = last_words
        self._waiters: dict[int, _Waiter] = {}
        self._given_up: set[int] = set()
        self._reading = threading.Lock()
        self._direct = threading.Lock()
        self._direct_call = 0
        self._due: Callable[[], None] | None = None  # of the thread that reads
        self._end: EnclaveError | None = None

    def quick(self, call: int, frame: Frame, codec: Codec) -> Any:
        """Make a call without files and without a timeout, in the fewest steps if no other thread calls.

        Args:
            call: from ``ids``.
            frame: its encoding.
            codec: the ecall's.

        Returns:
            The result; or, if it took more than those steps, the answer as a :class:`Parcel`.

        Raises:
            EnclaveDied, EnclaveError: as for :meth:`exchange`.
        """
        if self._end is not None or len(frame) > frames.INLINE or not self._direct.acquire(False):
            return self.exchange(call, frame, (), None, codec.name)
        if not self._reading.acquire(False):
            self._direct.release()
            return self.exchange(call, frame, (), None, codec.name)
        self._direct_call = call
        data, read = b"", None
        try:
            try:
                self._calls.send(frame)
                data = self._calls.recv(frames.INLINE)
                read = codec.read_result(data) if codec.read_result is not None else None
            except (*UNREADABLE, OSError):
                read = None
            if read is not None and read.call == call:
                self._direct_call = 0
                self._direct.release()
                result = read.p0
            else:
                waiter = self._waiters[call] = _Waiter()
                result = self._take(call, data) or self._read(call, waiter, None)
                self._waiters.pop(call, None)
        except BaseException:
            self._reading.release()
            self._give_up(call)
            raise
        self._reading.release()
        if self._waiters:
            self._pass_on()
        return result

    def exchange(
        self, call: int, frame: Frame, files: tuple[int, ...], timeout_seconds: float | None, what: str
    ) -> Parcel:
        """Send a call and wait for its answer.

        Args:
            call: from ``ids``.
            frame: its encoding.
            files: descriptors sent with it, which the caller keeps.
            timeout_seconds: None means no timeout.
            what: the ecall's name, for errors.

        Raises:
            CallTimeout: no answer in time; the call is cancelled.
            EnclaveDied: the enclave ended first.
            EnclaveError: it violated the protocol, and was disconnected.
        """
        if self._end is not None:
            self._fail()
        waiter = self._waiters[call] = _Waiter()
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        try:
            self._send(call, frame, files)
            parcel = self._wait(call, waiter, deadline)
        except _TooLate:
            self._give_up(call)
            raise CallTimeout(f"{what}: no answer in {timeout_seconds:g} s") from None
        except BaseException:
            self._give_up(call)
            raise
        self._waiters.pop(call, None)
        if self._waiters:
            self._pass_on()
        return parcel

    def cancel(self, call: int) -> None:
        """Request cancellation of a call; the enclave still answers that call."""
        try:
            frames.send_parcel(self._control, call, frames.encode(frames.Cancel(call)))
        except OSError:
            return

    def drop(self, call: int, frame: Frame) -> None:
        """Send a call whose answer is discarded. It never waits, so that an object's end may use it.

        Args:
            call: from ``ids``.
            frame: its encoding, at most 64 KiB.
        """
        if self._end is not None:
            return
        self._given_up.add(call)

        def send() -> None:
            with contextlib.suppress(OSError, MemoryError):
                frames.send_parcel(self._control, call, frame)

        if isinstance(self._control, socket.socket):
            send()
            return
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            # The thread that ends the object may be the one that has the stream's lock.
            threading.Thread(target=send, name="kluis-drop", daemon=True).start()

    def answer_ocall(self, ocall: int, frame: Frame, files: tuple[int, ...]) -> None:
        """Send the answer to an ocall; nothing if the enclave has ended."""
        try:
            frames.send_parcel(self._control, ocall, frame, files)
        except OSError:
            return

    def close(self) -> None:
        """Close the sockets, which ends the enclave; waiting calls raise EnclaveDied."""
        if self._end is None:
            self._end = EnclaveDied("the enclave was closed")
        for sock in (self._calls, self._control):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._wake_all()

    def _send(self, call: int, frame: Frame, files: tuple[int, ...]) -> None:
        try:
            if len(frame) <= frames.INLINE and not files and self._direct.acquire(False):
                self._direct_call = call
                self._calls.send(frame)
            else:
                frames.send_parcel(self._control, call, frame, files)
        except OSError:
            self._raise_end()

    def _wait(self, call: int, waiter: _Waiter, deadline: float | None) -> Parcel:
        while True:
            if waiter.parcel is not None:
                return waiter.parcel
            if self._end is not None:
                self._fail()
            if self._reading.acquire(False):
                try:
                    parcel = self._read(call, waiter, deadline, deadline is None)
                finally:
                    self._reading.release()
                if isinstance(parcel, Parcel):
                    return parcel
                self._pass_on(waiter)
                parcel()
                continue
            if not waiter.turn.acquire(timeout=-1 if deadline is None else _seconds_left(deadline)):
                raise _TooLate

    def _read(
        self, call: int, waiter: _Waiter, deadline: float | None, here: bool = False
    ) -> Parcel | Callable[[], None]:
        """Read for all threads until the answer to ``call`` arrives; with ``here``, or an ocall to run."""
        while waiter.parcel is None:
            if deadline is not None and not _readable(self._calls, _seconds_left(deadline)):
                raise _TooLate
            try:
                data = self._calls.recv(frames.INLINE)
            except OSError:
                data = b""
            if (parcel := self._take(call, data, here)) is not None:
                return parcel
            if (due := self._due) is not None:
                self._due = None
                return due
        return waiter.parcel

    def _take(self, call: int, data: bytes, here: bool = False) -> Parcel | None:
        """Process a read answer: that to ``call``, or another call's, which gets it."""
        if not data:
            self._raise_end()
        try:
            parcel = Parcel(data) if data != frames.LARGE else self._large()
            head = frames.head(parcel.frame)
        except (*UNREADABLE, FormatError, OSError) as error:
            self._broke(str(error))
        if head.kind >= frames.FIRST_OCALL:
            self._due = self._on_ocall(parcel, here)
            return None
        if head.id == self._direct_call:
            self._direct_call = 0
            self._direct.release()
        if head.id == call:
            return parcel
        self._hand_over(head.id, parcel)
        return None

    def _large(self) -> Parcel:
        parcel = frames.receive_parcel(self._control, self._max_bytes, socket.MSG_DONTWAIT)
        if parcel is None:
            raise FormatError("frame: announced and not sent", code="truncated")
        return parcel

    def _hand_over(self, call: int, parcel: Parcel) -> None:
        other = self._waiters.get(call)
        if other is not None and other.parcel is None:
            other.parcel = parcel
            other.wake()
            return
        parcel.close()
        if call in self._given_up:
            self._given_up.discard(call)
        elif call:
            self._broke(f"answered call {call}, which waits for nothing")

    def _give_up(self, call: int) -> None:
        if self._end is None:
            self._given_up.add(call)
            self.cancel(call)
        waiter = self._waiters.pop(call, None)
        if waiter is not None and waiter.parcel is not None:
            self._given_up.discard(call)
            waiter.parcel.close()
        self._pass_on()

    def _pass_on(self, busy: _Waiter | None = None) -> None:
        """Wake a waiting thread, other than a busy one, to read for all, unless one is already reading."""
        if not self._reading.locked():
            for waiter in [one for one in list(self._waiters.values()) if one is not busy][:1]:
                waiter.wake()

    def _wake_all(self) -> None:
        for waiter in list(self._waiters.values()):
            waiter.wake()

    def _broke(self, how: str) -> NoReturn:
        self._end = EnclaveError(f"the enclave broke the protocol: {how}", code="protocol")
        self.close()
        raise self._end

    def _raise_end(self) -> NoReturn:
        for end in (self._calls, self._control):
            if self._end is None and isinstance(end, Stream) and end.problem:
                self._broke(f"stream: {end.problem}")
        if self._end is None:
            words = self._last_words()
            self._end = EnclaveDied(f"the enclave ended{': ' if words else ''}{words}")
        self._wake_all()
        self._fail()

    def _fail(self) -> NoReturn:
        end = self._end or EnclaveDied("the enclave ended")
        raise type(end)(end.message, hint=end.hint, code=end.code)


class _TooLate(Exception):
    """The deadline has passed."""


def _seconds_left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _readable(sock: socket.socket | Stream, seconds: float) -> bool:
    if isinstance(sock, Stream):
        return sock.readable(seconds)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
