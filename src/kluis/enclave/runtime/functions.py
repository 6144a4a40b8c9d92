"""The functions behind an application's calls: plain ones, coroutines on one event loop, and streams.

A stream is an open iterator with a number. The host is not trusted with it: it may leave any number open,
take from one twice at once, or name numbers of others. So at most 64 are open, each call has one to itself,
and an item is encoded as a result is: undeclared values do not leave.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from kluis.enclave.app import Enclave
from kluis.enclave.boundary import streaming
from kluis.enclave.boundary.codec import Codec
from kluis.enclave.boundary.interface import COROUTINE, Signature
from kluis.enclave.runtime.cancelling import held_lock
from kluis.errors import EnclaveError, UnavailableError, UsageError

if TYPE_CHECKING:
    from kluis.enclave.runtime.coroutines import Loop

MOST_STREAMS = 64


class Ecall:
    """One ecall, and the exceptions whose messages may leave."""

    __slots__ = ("codec", "function", "raises")

    def __init__(
        self, codec: Codec, function: Callable[..., Any], raises: tuple[type[Exception], ...]
    ) -> None:
        self.codec = codec
        self.function = function
        self.raises = raises


def functions_of(app: Enclave) -> list[tuple[Signature, Callable[..., Any]]]:
    """Each plain call of an application with the function that serves it, in the order of their numbers."""
    loop = _Later()
    streams = Streams(loop)
    signatures = app.ecall_signatures
    served: list[Callable[..., Any]] = []
    for one in signatures:
        function = app.ecalls[one.name]
        if function.__code__.co_flags & COROUTINE:
            function = functools.partial(_run, loop, function)
        served.append(functools.partial(streams.open, one.name, function) if one.stream else function)
    served += [functools.partial(streams.take, one.name) for one in signatures if one.stream]
    calls = streaming.calls_of(signatures)
    if len(calls) > len(served):
        served.append(streams.close)
    return list(zip(calls, served, strict=True))


class _Later:
    """The event loop, started when the first coroutine needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: Loop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end; the errors are its own."""
        with self._lock:
            if self._loop is None:
                from kluis.enclave.runtime.coroutines import Loop  # loads asyncio

                self._loop = Loop()
        return self._loop.run(coroutine)


def _run(loop: _Later, function: Callable[..., Any], *arguments: Any) -> Any:
    return loop.run(function(*arguments))


class _Stream:
    """One open iterator.

    Attributes:
        name: of its ecall.
        iterator: None until it is made.
        used: the lock that the call which uses it has.
        abandoned: whether the host closed it while a call used it, which closes it at its end.
    """

    __slots__ = ("abandoned", "iterator", "name", "used")

    def __init__(self, name: str) -> None:
        self.name = name
        self.iterator: Any = None
        self.abandoned = False
        self.used = held_lock()


class Streams:
    """The open streams, by the numbers that the host gives them.

    Args:
        loop: runs those of coroutines.
    """

    def __init__(self, loop: _Later) -> None:
        self._loop = loop
        self._open: dict[int, _Stream] = {}
        self._lock = threading.Lock()

    def open(self, name: str, function: Callable[..., Any], number: int, *arguments: Any) -> None:
        """Call a streaming ecall, and keep its iterator.

        Raises:
            UnavailableError: 64 are open.
            UsageError: one of that number is open.
        """
        stream = _Stream(name)
        with self._lock:
            if number in self._open:
                raise UsageError(f"{name}: stream {number} is open already", code="stream")
            if len(self._open) >= MOST_STREAMS:
                raise UnavailableError(
                    f"streams: want at most {MOST_STREAMS} open, got more",
                    hint="close those that you no longer read",
                    code="streams_open",
                )
            self._open[number] = stream
        try:
            made = function(*arguments)
            asynchronous = hasattr(made, "__aiter__")
            stream.iterator = _Awaited(self._loop, made) if asynchronous else iter(made)
        except BaseException:
            self._open.pop(number, None)
            raise
        finally:
            self._release(number, stream)

    def take(self, name: str, number: int) -> Any:
        """The next item of a stream.

        Raises:
            StreamEnd: there is none.
            UsageError: the ecall has no open stream of that number, or another call uses it.
        """
        stream = self._open.get(number)
        if stream is None or stream.name != name:
            raise UsageError(f"{name}: want an open stream, got {number}", code="stream")
        if not stream.used.acquire(blocking=False):
            raise UsageError(f"{name}: stream {number} is used by another call", code="stream")
        try:
            try:
                return next(stream.iterator)
            except StopIteration:
                raise StreamEnd from None
        except BaseException:  # the end, an error or a cancellation: the iterator has nothing more
            self._open.pop(number, None)
            raise
        finally:
            self._release(number, stream)

    def close(self, number: int) -> None:
        """Close a stream: its generator ends where it is, or after the call that uses it; nothing if it has
        ended.
        """
        stream = self._open.get(number)
        if stream is None:
            return
        if not stream.used.acquire(blocking=False):
            stream.abandoned = True
            if not stream.used.acquire(blocking=False):
                return
        self._close(number, stream)

    def _release(self, number: int, stream: _Stream) -> None:
        stream.used.release()
        if stream.abandoned and stream.used.acquire(blocking=False):
            self._close(number, stream)

    def _close(self, number: int, stream: _Stream) -> None:
        """Close a stream whose lock this call has, and keeps."""
        if self._open.pop(number, None) is None:
            return
        close = getattr(stream.iterator, "close", None)
        if close is not None:
            close()


class StreamEnd(EnclaveError):
    """The stream has no more items."""

    code = "stream_end"  # streaming.END

    def __init__(self) -> None:
        super().__init__("the stream has ended")


class _Awaited(Iterator[Any]):
    """The items of an asynchronous iterator, each awaited on the event loop."""

    def __init__(self, loop: _Later, iterator: Any) -> None:
        self._loop = loop
        self._iterator: AsyncIterator[Any] = aiter(iterator)

    def __next__(self) -> Any:
        try:
            return self._loop.run(_next(self._iterator))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Close an asynchronous generator where it is."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            self._loop.run(close())


async def _next(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator)
