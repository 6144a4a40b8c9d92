"""Read request bodies, with a limit on all that a service holds at once.

Each body has a limit, but there are as many as connections: together more than an enclave's heap. So all
bytes of unanswered requests together have a limit, too. Above it, the incomplete request with the largest
product of size and time is dropped. A client that sends at once is done in a moment, and many clients that
send a little and wait are not spared for being small. A complete request waits only for the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from kluis.services.web.refusal import Refusal

MOST_HELD: Final = 64 << 20


@dataclasses.dataclass(slots=True, eq=False)
class _Coming:
    """One body.

    Attributes:
        patience: cancels the wait for more of it.
        since: the clock's time at its start.
        parts: received so far.
        size: of the parts, bytes.
        gone: whether it was dropped.
    """

    patience: asyncio.Timeout
    since: float
    parts: list[bytes] = dataclasses.field(default_factory=list)
    size: int = 0
    gone: bool = False


class Bodies:
    """The bodies of one service, in one event loop.

    Args:
        most: bytes of all bodies together.
        clock: monotonic seconds.
    """

    def __init__(self, most: int = MOST_HELD, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._held = 0
        self._coming: set[_Coming] = set()

    @contextlib.asynccontextmanager
    async def read(self, stream: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
        """Read one body, and count it until the block ends.

        Args:
            stream: of its parts.
            most: bytes of this body.

        Raises:
            Refusal: 413, it is larger; or 503, all together are.
        """
        one = _Coming(asyncio.timeout(None), self._clock())
        try:
            yield await self._whole(one, stream, most)
        finally:
            self._held -= one.size

    async def _whole(self, one: _Coming, stream: AsyncIterator[bytes], most: int) -> bytes:
        self._coming.add(one)
        try:
            async with one.patience:
                async for part in stream:
                    if one.size + len(part) > most:
                        raise Refusal(413, "RequestTooLarge", f"body: want at most {most} bytes, got more")
                    self._keep(one, part)
        except TimeoutError:
            raise self._busy() from None
        finally:
            self._coming.discard(one)
        if one.gone:  # its end came before the wait for it was over
            raise self._busy()
        whole = b"".join(one.parts)
        one.parts.clear()
        return whole

    def _keep(self, one: _Coming, part: bytes) -> None:
        if not one.gone:
            one.parts.append(part)
            one.size += len(part)
            self._held += len(part)
        now = self._clock()
        while self._held > self._most and self._coming:
            self._let_go(max(self._coming, key=lambda each: (each.size * (now - each.since), each.size)))
        if one.gone:
            raise self._busy()

    def _let_go(self, one: _Coming) -> None:
        self._coming.discard(one)
        self._held -= one.size
        one.parts.clear()
        one.size, one.gone = 0, True
        one.patience.reschedule(0)

    def _busy(self) -> Refusal:
        return Refusal(
            503,
            "ServerBusy",
            f"body: want at most {self._most} bytes of all requests at once, got more",
            headers={"Retry-After": "1"},
            hint="send it again, and in one go",
        )
