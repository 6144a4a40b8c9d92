"""Waiting ocalls: each has one slot, filled at most once, by the first answer."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import msgspec

from kluis.enclave.boundary import codec as boundary
from kluis.enclave.boundary import frames
from kluis.enclave.boundary.codec import Codec
from kluis.enclave.boundary.frames import Parcel
from kluis.enclave.runtime.cancelling import held_lock
from kluis.enclave.runtime.failures import CancelInterrupt
from kluis.errors import CallTimeout, FormatError, RemoteError
from kluis.formats.encoding.unreadable import UNREADABLE


class Slot:
    """The slot for one ocall's answer."""

    __slots__ = ("_filled", "_interrupted", "_parcel", "id", "thread")

    def __init__(self, id: int) -> None:  # noqa: A002 - the frame's own word
        self.id = id
        self.thread = threading.get_ident()
        self._parcel: Parcel | None = None
        self._interrupted = False
        self._filled = held_lock()

    def fill(self, parcel: Parcel) -> None:
        """Store the answer and wake the waiting thread."""
        self._parcel = parcel
        self._filled.release()

    def interrupt(self) -> None:
        """Wake the waiting thread without an answer."""
        self._interrupted = True
        self._filled.release()

    def wait(self, timeout_seconds: float | None, what: str) -> Parcel:
        """Wait for the answer.

        Raises:
            CallTimeout: none came in time.
            CancelInterrupt: the call that made this ocall was cancelled.
        """
        if not self._filled.acquire(timeout=-1 if timeout_seconds is None else timeout_seconds):
            raise CallTimeout(f"ocall {what}: no answer from the host in {timeout_seconds:g} s")
        if self._interrupted or self._parcel is None:
            raise CancelInterrupt
        return self._parcel

    def discard(self) -> None:
        """Discard an answer that was stored, or is being stored, after the wait ended."""
        self._filled.acquire(timeout=FILLING_SECONDS)
        if self._parcel is not None:
            self._parcel.close()


class Waiting(Protocol):
    """A slot, whatever waits for it: see :class:`Slot`."""

    @property
    def id(self) -> int:
        """Of the ocall."""
        ...

    @property
    def thread(self) -> int:
        """The thread that waits; 0 if none does."""
        ...

    def fill(self, parcel: Parcel) -> None:
        """Store the answer."""

    def interrupt(self) -> None:
        """Wake the thread without an answer."""

    def discard(self) -> None:
        """Discard an answer that comes after the wait ended."""


class Slots:
    """All waiting ocalls, by id."""

    def __init__(self) -> None:
        self._slots: dict[int, Waiting] = {}

    def add(self, slot: Waiting) -> None:
        """Register an ocall."""
        self._slots[slot.id] = slot

    def drop(self, slot: Waiting) -> None:
        """Unregister it; an answer that arrives later, or just now, is discarded."""
        if self._slots.pop(slot.id, None) is None:
            slot.discard()

    def fill(self, id: int, parcel: Parcel) -> None:  # noqa: A002 - the frame's own word
        """Deliver an answer to the waiting ocall; without one, the answer is discarded."""
        slot = self._slots.pop(id, None)
        if slot is None:
            parcel.close()
        else:
            slot.fill(parcel)

    def interrupt(self, thread: int) -> None:
        """Wake a thread that is waiting for the host."""
        for id, slot in list(self._slots.items()):  # noqa: A001 - the frame's own word
            if slot.thread == thread and self._slots.pop(id, None) is not None:
                slot.interrupt()


def result_of(codec: Codec, answer: Parcel) -> Any:
    """The result in an ocall's answer, which is not trusted; the parcel's descriptors are closed.

    Raises:
        RemoteError: the host's function raised.
        FormatError: an answer of another type.
    """
    if frames.head(answer.frame).kind == frames.OCALL_RETURN:
        return codec.decode_result(answer)
    answer.close()
    try:
        raised = _ocall_raised(answer.frame)
    except UNREADABLE as error:
        raise FormatError(boundary.explain(error, f"ocall {codec.name}", ("kind", "id"))) from None
    raise RemoteError(raised.type, raised.message)


FILLING_SECONDS = 0.1
_ocall_raised = msgspec.msgpack.Decoder(frames.OcallRaised).decode
