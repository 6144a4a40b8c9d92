"""Streaming ecalls and coroutines, through the real runtime: items, ends, and a hostile host."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kluis.enclave import Table
from kluis.enclave.boundary import frames, streaming
from kluis.enclave.boundary.codec import Codec
from kluis.enclave.runtime.functions import MOST_STREAMS
from kluis.errors import CallCancelled, CallTimeout, EnclaveDied, RemoteError, UsageError
from kluis.host import AsyncEnclave
from kluis.host.proxy import Ecall, EnclaveProxy

APP = Path(__file__).parents[1] / "streaming" / "app.py"


@pytest.fixture
def running(enclave: Callable[..., EnclaveProxy]) -> EnclaveProxy:
    return enclave(APP)


def _logged(running: EnclaveProxy, line: str) -> None:
    """Wait until the enclave has logged a line."""
    for _ in range(600):
        if line in running.logged():
            return
        time.sleep(0.1)
    raise AssertionError(f"want {line!r}, got {running.logged()}")


def test_items_come_one_by_one(running: EnclaveProxy) -> None:
    """Each kind of stream gives its items in order, and ends."""
    assert list(running.count(3)) == [1, 2, 3]
    assert list(running.count(to=0)) == []
    assert list(running.words("a b c")) == ["a", "b", "c"]
    assert list(running.squares([1, 2, 3])) == [1, 4, 9]
    parts = list(running.batches({"a": list(range(5))}, 2))
    assert parts == [Table({"a": [0, 1]}), Table({"a": [2, 3]}), Table({"a": [4]})]
    assert running.logged() == ["count 3 ended", "count 0 ended", "words ended"]


def test_a_notebook_shows_an_enclave(running: EnclaveProxy) -> None:
    """The card has the ecalls with what they do, and states that a debug enclave is open."""
    shown = running._repr_html_()
    assert shown.startswith("<div><strong>enclave streaming</strong><table>")
    assert "<tr><th>count()</th><td>Count from 1.</td></tr>" in shown


def test_a_loop_that_is_left_closes_the_generator(running: EnclaveProxy) -> None:
    """After a break the generator inside runs its finally, without another word of the host."""
    for number in running.count(100):
        if number == 2:
            break
    _logged(running, "count 100 closed")
    for _ in running.words("a b c"):
        break
    _logged(running, "words closed")


def test_a_stream_is_closed_in_time(running: EnclaveProxy) -> None:
    """With close, and at the end of a with, the generator has ended when the call returns."""
    stream = running.count(50)
    assert next(stream) == 1
    stream.close()
    assert running.logged() == ["count 50 closed"]
    assert list(stream) == []
    stream.close()
    with running.count(60) as stream:
        assert next(stream) == 1
    assert running.logged()[1:] == ["count 60 closed"]


def test_errors_end_a_stream(running: EnclaveProxy) -> None:
    """A declared exception reaches the host, an undeclared one and an undeclared value do not."""
    stream = running.fails(2)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(RemoteError, match="Refusal: no more"):
        next(stream)
    assert list(stream) == []
    stream = running.leaks()
    assert next(stream) == 1
    with pytest.raises(RemoteError) as error:
        next(stream)
    assert "secret" not in str(error.value)
    assert error.value.inner_code == "result"
    with pytest.raises(RemoteError) as error:
        running.fails_later()
    assert str(error.value) == "ValueError"


def test_arguments_are_checked_when_a_stream_is_opened(running: EnclaveProxy) -> None:
    """A wrong argument is an error of the call, and not of the first item."""
    with pytest.raises(UsageError, match=r"count\.to: want int, got str"):
        running.count("3")
    with pytest.raises(TypeError):
        running.count(1, 2.0, 3)
    with pytest.raises(UsageError, match="count: want an ecall with one result, got a stream"):
        running.submit("count", 3)


def test_a_timeout_stops_the_generator(running: EnclaveProxy) -> None:
    """An item that takes too long ends the stream, inside as well."""
    stream = running.gated.within(1.0)("a")
    with pytest.raises(CallTimeout):
        next(stream)
    assert list(stream) == []
    _logged(running, "a CancelInterrupt")


def test_coroutines(running: EnclaveProxy) -> None:
    """A coroutine's result returns; several wait at the same time; a cancelled one is cancelled inside."""
    assert running.later("a") == "a"
    call = running.submit("later", "b", 120.0)
    time.sleep(0.2)
    assert running.later("c") == "c"
    assert call.cancel()
    with pytest.raises(CallCancelled):
        call.result()
    _logged(running, "later b cancelled")


def test_the_asynchronous_host(running: EnclaveProxy) -> None:
    """Calls are awaited at the same time, streams are for async for, and a cancelled task stops its call."""

    async def all_of_it() -> None:
        enclave = AsyncEnclave(running)
        assert await asyncio.gather(enclave.later("a", 0.2), enclave.later("b")) == ["a", "b"]
        assert [word async for word in enclave.words("a b c")] == ["a", "b", "c"]
        assert [part async for part in enclave.batches({"a": [1, 2]}, 1)] == [
            Table({"a": [1]}),
            Table({"a": [2]}),
        ]
        async with enclave.count(70) as stream:
            assert await anext(stream) == 1
        assert (await enclave.logged())[-1] == "count 70 closed"
        stream = enclave.count(80)
        assert await anext(stream) == 1
        del stream
        gc.collect()
        task = asyncio.ensure_future(enclave.later("z", 120.0))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = enclave.words("a b", 120.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        with pytest.raises(RemoteError, match="Refusal"):
            [number async for number in enclave.fails(1)]
        with pytest.raises(AttributeError):
            enclave.pid  # noqa: B018
        assert "count" in dir(enclave)

    asyncio.run(all_of_it())
    for line in ("later z cancelled", "count 80 closed", "words cancelled"):
        _logged(running, line)


def test_an_enclave_that_ends_ends_its_streams(running: EnclaveProxy) -> None:
    """A stream of an enclave that was killed raises, and leaving it is no error."""
    stream = running.count(10)
    assert next(stream) == 1
    running.kill()
    with pytest.raises(EnclaveDied):
        next(stream)
    del stream


class _Raw:
    """The three calls of a stream, made as a hostile host would."""

    def __init__(self, running: EnclaveProxy) -> None:
        calls = streaming.calls_of(running.interface.ecalls)
        limits = running.interface.limits
        link: Any = running._link
        self.calls = [
            Ecall(link, one, Codec(one, kind, frames.RETURN, limits), None) for kind, one in enumerate(calls)
        ]
        names = [one.name for one in running.interface.ecalls]
        streams = [one.name for one in running.interface.ecalls if one.stream]
        self.open = self.calls[names.index("count")]
        self.open_gated = self.calls[names.index("gated")]
        self.take_gated = self.calls[len(names) + streams.index("gated")]
        self.take = self.calls[len(names) + streams.index("count")]
        self.other = self.calls[len(names) + streams.index("squares")]
        self.close = self.calls[-1]


def test_a_host_that_makes_up_numbers(running: EnclaveProxy) -> None:
    """A number that is not open, is open already, or is of another ecall, is refused; the enclave goes on."""
    raw = _Raw(running)
    for call in (raw.take, raw.other):
        with pytest.raises(RemoteError, match="want an open stream, got 7"):
            call(7)
    assert raw.close(7) is None
    assert raw.open(7, 3, 0.0) is None
    with pytest.raises(RemoteError, match="count: stream 7 is open already"):
        raw.open(7, 3, 0.0)
    with pytest.raises(RemoteError, match="squares: want an open stream, got 7"):
        raw.other(7)
    for number in (0, -1, 1 << 63):
        with pytest.raises(UsageError):
            raw.take(number)
    assert [raw.take(7) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(RemoteError) as error:
        raw.take(7)
    assert error.value.inner_code == streaming.END
    with pytest.raises(RemoteError, match="want an open stream"):
        raw.take(7)


def test_a_host_that_leaves_streams_open(running: EnclaveProxy) -> None:
    """At most 64 are open: the next is refused, and another is opened once one is closed."""
    raw = _Raw(running)
    for number in range(1, MOST_STREAMS + 1):
        raw.open(number, 3, 0.0)
    with pytest.raises(RemoteError) as error:
        raw.open(1000, 3, 0.0)
    assert error.value.inner_code == "streams_open"
    raw.close(5)
    raw.open(1000, 3, 0.0)
    assert raw.take(1000) == 1


def test_a_host_that_takes_twice_at_once(running: EnclaveProxy) -> None:
    """A stream that a call uses is not used by a second one; closing it meanwhile closes it afterwards."""
    raw = _Raw(running)
    raw.open_gated(1, "a")
    first = raw.take_gated.submit(1)
    _logged(running, "a waits")
    with pytest.raises(RemoteError, match="gated: stream 1 is used by another call"):
        raw.take_gated(1)
    raw.close(1)
    running.open_gate()
    assert first.result() == 1
    _logged(running, "a GeneratorExit")
    with pytest.raises(RemoteError, match="want an open stream"):
        raw.take_gated(1)


def test_a_cancelled_item_ends_the_stream(running: EnclaveProxy) -> None:
    """The generator is interrupted where it is, and its number is free again."""
    raw = _Raw(running)
    raw.open_gated(1, "a")
    call = raw.take_gated.submit(1)
    _logged(running, "a waits")
    call.cancel()
    _logged(running, "a CancelInterrupt")
    raw.open(1, 2, 0.0)
    assert raw.take(1) == 1
