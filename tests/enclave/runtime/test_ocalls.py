"""The places of ocalls' answers."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest

from kluis.enclave.boundary import memfile
from kluis.enclave.boundary.frames import Parcel
from kluis.enclave.runtime.awaiting import AwaitedSlot
from kluis.enclave.runtime.failures import CancelInterrupt
from kluis.enclave.runtime.ocalls import Slot, Slots
from kluis.errors import CallTimeout


def test_first_answer_counts() -> None:
    """The first answer is taken; a second one, and one for nobody, are thrown away."""
    slots, slot = Slots(), Slot(1)
    slots.add(slot)
    slots.fill(1, Parcel(b"first"))
    slots.fill(1, Parcel(b"second"))
    slots.fill(2, Parcel(b"nobody's"))
    assert slot.wait(0, "ask").frame == b"first"


def test_late_answer() -> None:
    """After the time is up the answer is thrown away, and its descriptors closed."""
    slots, slot = Slots(), Slot(1)
    slots.add(slot)
    with pytest.raises(CallTimeout, match=r"^ocall ask: no answer from the host in 0\.01 s$"):
        slot.wait(0.01, "ask")
    slots.drop(slot)
    file = memfile.of_bytes(b"x")
    slots.fill(1, Parcel(b"late", (file,)))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_answer_between_timeout_and_drop() -> None:
    """An answer that comes as its ocall gives up is closed, too."""
    slots, slot = Slots(), Slot(1)
    slots.add(slot)
    with pytest.raises(CallTimeout):
        slot.wait(0.01, "ask")
    file = memfile.of_bytes(b"x")
    slots.fill(1, Parcel(b"late", (file,)))
    slots.drop(slot)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_interrupted() -> None:
    """A thread that waits for the host is woken when its call is cancelled; others are not."""
    slots, mine, other = Slots(), Slot(1), Slot(2)
    other.thread = -1
    slots.add(mine)
    slots.add(other)
    slots.interrupt(threading.get_ident())
    with pytest.raises(CancelInterrupt):
        mine.wait(None, "ask")
    with pytest.raises(CallTimeout):
        other.wait(0, "ask")


def test_a_coroutine_gets_the_first_answer() -> None:
    """From the thread that reads; a late answer is thrown away, and its descriptors closed."""

    async def whole() -> None:
        slots, slot = Slots(), AwaitedSlot(1)
        slots.add(slot)
        slots.interrupt(threading.get_ident())  # of a call that waits in the loop's thread
        threading.Thread(target=lambda: [slots.fill(1, Parcel(one)) for one in (b"first", b"second")]).start()
        assert (await slot.wait(60, "ask")).frame == b"first"
        late, between = AwaitedSlot(2), AwaitedSlot(3)
        files = [memfile.of_bytes(b"x") for _ in range(2)]
        for one in (late, between):
            slots.add(one)
            with pytest.raises(CallTimeout, match=r"^ocall ask: no answer from the host in 0\.01 s$"):
                await one.wait(0.01, "ask")
        slots.drop(late)
        slots.fill(2, Parcel(b"late", (files[0],)))
        slots.fill(3, Parcel(b"between", (files[1],)))
        slots.drop(between)
        await asyncio.sleep(0)
        for file in files:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(file)

    asyncio.run(whole())


@pytest.mark.parametrize("own", [True, False])
def test_a_coroutine_that_is_cancelled_as_its_answer_comes(own: bool) -> None:
    """The answer's descriptors are closed, whether its loop or another thread has read it."""

    async def whole() -> None:
        slots, slot = Slots(), AwaitedSlot(1)
        slots.add(slot)
        file = memfile.of_bytes(b"x")

        async def request() -> None:
            try:
                await slot.wait(60, "ask")
            except BaseException:
                slots.drop(slot)
                raise

        task = asyncio.create_task(request())
        await asyncio.sleep(0)
        if own:
            slots.fill(1, Parcel(b"answer", (file,)))
        else:
            reading = threading.Thread(target=slots.fill, args=(1, Parcel(b"answer", (file,))))
            reading.start()
            reading.join(60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)

    asyncio.run(whole())


@pytest.mark.parametrize("own", [True, False])
def test_a_loop_that_is_closed_with_an_answer_on_its_way(own: bool) -> None:
    """The answer's descriptors are closed, though no coroutine ever gets it."""
    file = memfile.of_bytes(b"x")

    def close_early() -> None:
        loop, slots = asyncio.new_event_loop(), Slots()

        async def request() -> None:
            slot = AwaitedSlot(1)
            slots.add(slot)
            try:
                await slot.wait(60, "ask")
            except BaseException:
                slots.drop(slot)
                raise

        task = loop.create_task(request())
        loop.run_until_complete(asyncio.sleep(0))
        if own:
            loop.call_soon(slots.fill, 1, Parcel(b"answer", (file,)))
            loop.call_soon(loop.stop)
            loop.run_forever()
        else:
            reading = threading.Thread(target=slots.fill, args=(1, Parcel(b"answer", (file,))))
            reading.start()
            reading.join(60)
        loop.close()
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is, and is meant to be

    close_early()
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
