"""Ocalls from coroutines: the event loop goes on until the host has answered. Loads asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final

from kluis.enclave.boundary.frames import Parcel
from kluis.errors import CallTimeout

NO_THREAD: Final = 0


class AwaitedSlot:
    """The slot for one ocall's answer, in the running event loop.

    Attributes:
        thread: none waits, so no cancelled call interrupts it.
        loop: the event loop.
    """

    __slots__ = ("_answers", "_future", "_own", "id", "loop")

    thread = NO_THREAD

    def __init__(self, id: int) -> None:  # noqa: A002 - the frame's own word
        self._answers: list[Parcel] = []  # one at most; threads take it from here at once
        self.id = id
        self.loop = asyncio.get_running_loop()
        self._own = threading.get_ident()
        self._future: asyncio.Future[None] = self.loop.create_future()

    def __del__(self) -> None:
        self._close()  # of a loop that was closed before it resumed the coroutine

    def fill(self, parcel: Parcel) -> None:
        """Store the answer; called in the thread that reads it."""
        self._answers.append(parcel)
        if threading.get_ident() == self._own:
            self._settle()
            return
        try:
            self.loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop has ended
            self._close()

    def interrupt(self) -> None:
        """Does nothing: the coroutine's own task is cancelled instead."""

    def discard(self) -> None:
        """Discard an answer that was stored, or is being stored, after the wait ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and wakes nobody
            if not self._future.cancel() and not self._future.cancelled():
                self._future.exception()  # retrieved: a loop would log one that nobody awaits
        self._close()

    async def wait(self, timeout_seconds: float | None, what: str) -> Parcel:
        """Wait for the answer.

        Raises:
            CallTimeout: none came in time.
        """
        limit = None
        if timeout_seconds is not None:
            limit = self.loop.call_later(timeout_seconds, self._refuse, timeout_seconds, what)
        try:
            await self._future
        finally:
            if limit is not None:
                limit.cancel()
        return self._answers.pop()

    def _refuse(self, seconds: float, what: str) -> None:
        if not self._future.done():
            self._future.set_exception(CallTimeout(f"ocall {what}: no answer from the host in {seconds:g} s"))

    def _settle(self) -> None:
        if self._future.done():
            self._close()
        else:
            self._future.set_result(None)

    def _close(self) -> None:
        with contextlib.suppress(IndexError):
            self._answers.pop().close()
