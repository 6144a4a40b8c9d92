"""Runtimes of the engine, each kept by the thread that made it.

A runtime that another thread touches or drops panics: with a ``BaseException``, and a message on standard
error. So each thread keeps its runtimes in its own table, and an engine holds a number. A garbage collector
in another thread drops a number; the thread frees the runtime when it next makes one, or ends.
"""

from __future__ import annotations

import itertools
import threading
from typing import Final

from jsbox import Runtime

from kluis.errors import UsageError

_numbers: Final = itertools.count(1)


class _Table(threading.local):
    def __init__(self) -> None:
        self.held: dict[int, Runtime] = {}
        self.dropped: list[int] = []  # by whichever thread; appending and popping are atomic


_table: Final = _Table()


class Handle:
    """A runtime of the thread that made the handle."""

    __slots__ = ("_dropped", "_number", "_thread")

    def __init__(self, *, heap: int, stack: int) -> None:
        while _table.dropped:
            _table.held.pop(_table.dropped.pop(), None)
        self._dropped = _table.dropped
        self._thread = threading.get_ident()
        self._number = next(_numbers)
        _table.held[self._number] = Runtime(memory_limit=heap, max_stack_size=stack, max_value_bytes=heap)

    def runtime(self) -> Runtime:
        """The runtime.

        Raises:
            UsageError: in another thread than the one that made it, or after :meth:`free`.
        """
        if (own := _table.held.get(self._number)) is None:
            if threading.get_ident() != self._thread:
                raise UsageError("script engine: belongs to the thread that made it", code="script_thread")
            raise UsageError("script engine: is freed", code="script_freed")
        return own

    def free(self) -> None:
        """Free the runtime: now in its own thread; else when its thread next makes one, or ends."""
        if threading.get_ident() == self._thread:
            _table.held.pop(self._number, None)
        else:
            self._dropped.append(self._number)

    def __del__(self) -> None:
        self._dropped.append(self._number)
