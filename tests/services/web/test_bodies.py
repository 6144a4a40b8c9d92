"""What all bodies together may take, and which of them gives way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from kluis.services.web import Refusal
from kluis.services.web.bodies import Bodies

BUSY = (503, "ServerBusy", "body: want at most 100 bytes of all requests at once, got more")


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Client:
    """Sends a body in parts, when the test triggers them; ``done`` ends once the request was answered."""

    def __init__(self, bodies: Bodies, most: int = 100) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.answered = asyncio.Event()
        self.done = asyncio.create_task(self._ask(bodies, most))

    async def _ask(self, bodies: Bodies, most: int) -> bytes:
        async with bodies.read(self._stream(), most) as body:
            await self.answered.wait()
            return body

    async def _stream(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part

    async def send(self, size: int, *, last: bool = False) -> None:
        """Send so many bytes."""
        self._parts.put_nowait(bytes(size))
        if last:
            self._parts.put_nowait(None)
        await _turns()

    async def refused(self) -> tuple[int, str, str] | None:
        """Status, code and message of the refusal; None where there is none yet."""
        await _turns()
        if not self.done.done():
            return None
        error = self.done.exception()
        assert isinstance(error, Refusal)
        return error.status, error.code, error.message


def _run(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(300):
            await work()

    asyncio.run(within())


def test_the_largest_that_has_not_come_whole_gives_way() -> None:
    """Who sent all of it keeps its place; of the others the largest loses it, and a small one is answered."""

    async def work() -> None:
        now = [0.0]
        bodies = Bodies(100, lambda: now[0])
        whole, small, large, late = (Client(bodies) for _ in range(4))
        await whole.send(50, last=True)
        await small.send(5)
        await large.send(40)
        now[0] += 0.1  # both have come for as long
        await late.send(10, last=True)
        assert await large.refused() == BUSY
        for each in (whole, small, late):
            assert await each.refused() is None
        await small.send(5, last=True)
        for each, size in ((whole, 50), (small, 10), (late, 10)):
            each.answered.set()
            assert len(await each.done) == size

    _run(work)


def test_many_who_wait_send_nobody_away_who_is_quick() -> None:
    """Strangers that each keep a little for long give way to one that has just come, and is larger."""

    async def work() -> None:
        now = [0.0]
        bodies = Bodies(100, lambda: now[0])
        waiting = [Client(bodies) for _ in range(10)]
        for each in waiting:
            await each.send(9)
        now[0] += 0.2
        quick = Client(bodies)
        await quick.send(10)
        await quick.send(10)
        now[0] += 0.001
        await quick.send(10, last=True)
        assert await quick.refused() is None
        assert [await each.refused() for each in waiting].count(BUSY) == 3
        quick.answered.set()
        assert len(await quick.done) == 30

    _run(work)


def test_one_more_where_all_have_come_whole() -> None:
    """Where all others wait for an answer, who comes is refused; once one was answered, there is room."""

    async def work() -> None:
        bodies = Bodies(100)
        first, second = Client(bodies), Client(bodies)
        await first.send(100, last=True)
        await second.send(1, last=True)
        assert await second.refused() == BUSY
        first.answered.set()
        await first.done
        third = Client(bodies)
        await third.send(100, last=True)
        third.answered.set()
        assert len(await third.done) == 100

    _run(work)


def test_one_that_ends_as_it_gives_way() -> None:
    """The end of one that had to go, in the same turn as the end of its wait, makes it no empty body."""

    async def work() -> None:
        bodies = Bodies(100)
        large, late = Client(bodies), Client(bodies)
        await large.send(90)
        late._parts.put_nowait(bytes(50))
        large._parts.put_nowait(None)
        assert await large.refused() == BUSY
        assert await late.refused() is None
        late._parts.put_nowait(None)
        late.answered.set()
        assert len(await late.done) == 50

    _run(work)


@pytest.mark.parametrize("given_up", [False, True])
def test_what_is_refused_or_given_up_is_held_no_more(given_up: bool) -> None:
    """Neither a body past its own bound nor a client that leaves keeps anything of the room."""

    async def work() -> None:
        bodies = Bodies(100)
        gone = Client(bodies, 95)
        await gone.send(90)
        if given_up:
            gone.done.cancel()
            await _turns()
        else:
            await gone.send(9)
            assert await gone.refused() == (413, "RequestTooLarge", "body: want at most 95 bytes, got more")
        other = Client(bodies)
        await other.send(100, last=True)
        other.answered.set()
        assert len(await other.done) == 100

    _run(work)
