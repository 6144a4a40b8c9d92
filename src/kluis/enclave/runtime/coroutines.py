"""One event loop in a thread, on which the coroutines of all calls run; loads asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from kluis.enclave.runtime.cancelling import held_lock

# A thread that waits for a lock is not interrupted: so often it looks whether its call was cancelled.
LOOK_SECONDS = 0.05


class Loop:
    """An event loop, which runs until the enclave ends."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="kluis-coroutines", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine, and wait for its end in this thread; the errors are its own.

        If the waiting call is cancelled, so is the coroutine.
        """
        ended = held_lock()
        future = asyncio.run_coroutine_threadsafe(_await(coroutine), self._loop)
        future.add_done_callback(lambda _: ended.release())
        try:
            while not ended.acquire(timeout=LOOK_SECONDS):
                continue
        except BaseException:
            future.cancel()
            raise
        return future.result()


async def _await(coroutine: Any) -> Any:
    """Await a coroutine or another awaitable, such as an asynchronous generator's close."""
    return await coroutine
