"""The control socket is read by its thread or by one event loop, and never by nobody."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from kluis.enclave.runtime.control import ControlReader
from kluis.enclave.runtime.failures import OwnInterrupt

SECONDS = 60


class Reading:
    """A control socket with its reader; notes which thread read each frame."""

    def __init__(self) -> None:
        self.host, self.control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.read: list[tuple[bytes, int]] = []
        self.came = threading.Condition()
        self.ended = False
        self.receiving = False
        self.failed: list[bool] = []
        self.reader = ControlReader(self.control, self._read, lambda: self.failed.append(True))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.reader.run()
        except EOFError:
            self.ended = True

    def _read(self, flags: int) -> None:
        try:
            self.receiving = self.receiving or not flags
            frame = self.control.recv(100, flags)
        except BlockingIOError:
            return
        finally:
            self.receiving = self.receiving and bool(flags)
        with self.came:
            self.read.append((frame, threading.get_ident()))
            self.came.notify_all()
        if not frame:
            raise EOFError

    def await_frames(self, count: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.read) >= count, SECONDS)


@pytest.fixture
def reading() -> Iterator[Reading]:
    made = Reading()
    until = time.monotonic() + SECONDS
    while not made.receiving and time.monotonic() < until:
        time.sleep(0.001)
    yield made
    made.host.close()
    made.thread.join(SECONDS)
    assert made.ended
    made.control.close()


async def _until(reading: Reading, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len(reading.read) < count:
            await asyncio.sleep(0.001)


async def _lend(reading: Reading) -> None:
    """Lend the socket, and let the thread receive the frame for which it waits already."""
    reading.reader.lend(asyncio.get_running_loop())
    async with asyncio.timeout(SECONDS):
        while reading.receiving:
            reading.host.send(b"first")
            await asyncio.sleep(0.001)
    await _until(reading, 1)


LOOK = "kluis.enclave.runtime.control.LOOK_SECONDS"
NEVER = 10 * SECONDS
"""On a loaded machine a loop that is not busy may not run for as long as the thread looks."""


def test_a_loop_that_awaits_answers_reads_them_itself(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread reads one frame more at most, which it was waiting for already."""
    monkeypatch.setattr(LOOK, NEVER)

    async def test() -> None:
        reading.reader.lend(asyncio.get_running_loop())
        for number in range(10):
            reading.host.send(b"%d" % number)
            await _until(reading, number + 1)
        reading.reader.take_back()

    asyncio.run(test())
    assert [frame for frame, _ in reading.read] == [b"%d" % number for number in range(10)]
    assert sum(thread == reading.thread.ident for _, thread in reading.read) <= 1


def test_the_thread_reads_while_the_loop_is_busy(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits for something that only a frame brings would wait without end."""

    async def test() -> None:
        reading.reader.lend(asyncio.get_running_loop())
        reading.host.send(b"one")
        await _until(reading, 1)
        reading.host.send(b"two")
        reading.host.send(b"three")
        reading.await_frames(3)  # the loop does nothing meanwhile
        monkeypatch.setattr(LOOK, NEVER)
        reading.reader.lend(asyncio.get_running_loop())
        for number in range(3):
            reading.host.send(b"more")
            await _until(reading, 4 + number)
        reading.reader.take_back()

    asyncio.run(test())
    # The thread may have been waiting for one frame when the loop began to read.
    assert sum(thread == reading.thread.ident for _, thread in reading.read[3:]) <= 1


def test_the_thread_reads_once_the_loop_has_ended(reading: Reading) -> None:
    """Also what came before anybody noticed."""

    async def test() -> None:
        reading.reader.lend(asyncio.get_running_loop())
        reading.host.send(b"one")
        await _until(reading, 1)

    asyncio.run(test())
    reading.host.send(b"two")
    reading.await_frames(2)
    assert reading.read[1][1] == reading.thread.ident


def test_a_loop_whose_thread_is_about_to_wait_gives_it_back(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not only when the thread next looks; another thread that waits changes nothing."""
    monkeypatch.setattr(LOOK, NEVER)

    async def test() -> None:
        reading.reader.lend(asyncio.get_running_loop())
        reading.host.send(b"one")
        await _until(reading, 1)
        reading.host.send(b"two")
        await _until(reading, 2)
        await asyncio.to_thread(reading.reader.take_back)
        assert reading.reader._loop is not None
        reading.reader.take_back()
        reading.host.send(b"three")
        reading.await_frames(3)

    asyncio.run(test())
    assert reading.read[2][1] == reading.thread.ident


def test_a_stream_is_not_lent() -> None:
    """Its frames have no bounds that a loop could wait for."""
    reader = ControlReader(object(), lambda flags: None, lambda: None)  # type: ignore[arg-type] # anything but a socket

    async def test() -> None:
        reader.lend(asyncio.get_running_loop())

    asyncio.run(test())
    assert reader._loop is None


def test_an_error_in_the_loop_is_not_passed_over(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the thread, which ends by it: a frame that nobody dispatched may be an answer."""
    monkeypatch.setattr(LOOK, NEVER)
    raised: list[object] = []

    async def test() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: raised.append(context.get("exception")))
        await _lend(reading)
        reading.reader._read = _fail
        reading.host.send(b"more")
        async with asyncio.timeout(SECONDS):
            while not reading.failed:
                await asyncio.sleep(0.001)
        reading.reader._read = reading._read
        reading.reader.take_back()

    asyncio.run(test())
    assert isinstance(raised[0], RuntimeError)


def test_a_loop_that_reads_its_own_cancellation_ends_and_gives_the_socket_back(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame is lost by it, so the enclave goes on."""
    monkeypatch.setattr(LOOK, NEVER)

    async def test() -> None:
        await _lend(reading)
        reading.reader._read = _interrupt
        reading.host.send(b"cancel")
        await asyncio.sleep(SECONDS)

    def _interrupt(flags: int) -> None:
        reading.reader._read = reading._read
        reading._read(flags)
        raise OwnInterrupt

    with pytest.raises(OwnInterrupt):
        asyncio.run(test())
    assert not reading.failed
    count = len(reading.read)
    assert reading.read[-1][0] == b"cancel"
    reading.host.send(b"more")
    reading.await_frames(count + 1)
    assert reading.read[-1] == (b"more", reading.thread.ident)


def _fail(flags: int) -> None:
    raise RuntimeError(flags)
