"""Ocalls from coroutines: the event loop goes on until the host has answered. Loads asyncio."""

from __future__ import annotations

import asyncio
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

    __slots__ = ("_future", "_own", "id", "loop")

    thread = NO_THREAD

    def __init__(self, id: int) -> None:  # noqa: A002 - the frame's own word
        self.id = id
        self.loop = asyncio.get_running_loop()
        self._own = threading.get_ident()
        self._future: asyncio.Future[Parcel] = self.loop.create_future()

    def fill(self, parcel: Parcel) -> None:
        """Store the answer; called in the thread that reads it."""
        if threading.get_ident() == self._own:
            self._settle(parcel)
            return
        try:
            self.loop.call_soon_threadsafe(self._settle, parcel)
        except RuntimeError:  # the loop has ended
            parcel.close()

    def interrupt(self) -> None:
        """Does nothing: the coroutine's own task is cancelled instead."""

    def discard(self) -> None:
        """Discard an answer that was stored, or is being stored, after the wait ended."""
        if not self._future.cancel() and not self._future.cancelled() and self._future.exception() is None:
            self._future.result().close()  # the task was cancelled before it went on

    async def wait(self, timeout_seconds: float | None, what: str) -> Parcel:
        """Wait for the answer.

        Raises:
            CallTimeout: none came in time.
        """
        if timeout_seconds is None:
            return await self._future
        limit = self.loop.call_later(timeout_seconds, self._refuse, timeout_seconds, what)
        try:
            return await self._future
        finally:
            limit.cancel()

    def _refuse(self, seconds: float, what: str) -> None:
        if not self._future.done():
            self._future.set_exception(CallTimeout(f"ocall {what}: no answer from the host in {seconds:g} s"))

    def _settle(self, parcel: Parcel) -> None:
        if self._future.done():
            parcel.close()
        else:
            self._future.set_result(parcel)
