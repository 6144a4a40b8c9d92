"""Streaming ecalls from outside: an iterator whose items come from the enclave one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self, TypeVar

from kluis.enclave.boundary import streaming
from kluis.errors import CallTimeout, RemoteError, UsageError

T_co = TypeVar("T_co", covariant=True)
"""The type of a stream's items, which the classes of ``kluis stubs`` state."""


class PlainCall(Protocol):
    """One of a stream's calls: an :class:`~kluis.host.proxy.Ecall`."""

    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the call."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Start the call in a separate thread."""

    def within(self, seconds: float) -> Any:
        """The same call with a timeout."""

    def number(self) -> int:
        """A number that no call and no stream has."""

    def drop(self, *args: Any) -> None:
        """Make the call, and discard its answer."""


class StreamingEcall:
    """An ecall that returns an iterator.

    Args:
        opening: the call that opens a stream.
        taking: the call for one item.
        closing: the call that closes one.
    """

    def __init__(self, opening: PlainCall, taking: PlainCall, closing: PlainCall) -> None:
        self.opening, self.taking, self.closing = opening, taking, closing
        self.__name__ = opening.__name__
        self.__doc__ = opening.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Open a stream: its :class:`Items`; raises the errors of :class:`~kluis.host.proxy.Ecall`."""
        number = self.opening.number()
        try:
            self.opening(number, *args, **kwargs)
        except (CallTimeout, KeyboardInterrupt):  # it may be open by now
            self.closing.drop(number)
            raise
        items: Items[Any] = Items(self, number)
        return items

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: a stream has many results.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self.__name__}: want an ecall with one result, got a stream",
            hint=f"for item in enclave.{self.__name__}(...), or AsyncEnclave for async for",
        )

    def within(self, seconds: float) -> StreamingEcall:
        """The same function with a timeout of ``seconds`` for the call and for each item."""
        return StreamingEcall(self.opening.within(seconds), self.taking.within(seconds), self.closing)

    def __repr__(self) -> str:
        return f"<streaming {self.opening!r}>"


class Items(Iterator[T_co]):
    """The items of one stream.

    The enclave's generator is closed when this is: at its end, by ``close``, at the end of a ``with``, or
    when the last reference to it is gone, as after a ``break`` in a ``for`` over it.

    Args:
        ecall: that opened it.
        number: of the stream.
    """

    def __init__(self, ecall: StreamingEcall, number: int) -> None:
        self._ecall = ecall
        self._number: int | None = number

    def __next__(self) -> T_co:
        """The next item.

        Raises:
            StopIteration: there is none.
            RemoteError: the code inside raised; the stream has ended.
            CallTimeout, CallCancelled, EnclaveDied: no item came; the stream has ended.
        """
        if self._number is None:
            raise StopIteration
        number = self._number
        try:
            item: T_co = self._ecall.taking(number)
        except BaseException as error:
            self._number = None
            if is_end(error):
                raise StopIteration from None
            self._ecall.closing.drop(number)
            raise
        return item

    def close(self) -> None:
        """Close the stream: the generator inside runs its ``finally`` now; nothing if it has ended.

        Raises:
            RemoteError: that raised.
            EnclaveDied: the enclave has ended.
        """
        number, self._number = self._number, None
        if number is not None:
            self._ecall.closing(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._ecall.closing.drop(number)


def is_end(error: BaseException) -> bool:
    """Whether an error is the regular end of a stream."""
    return isinstance(error, RemoteError) and error.inner_code == streaming.END
