"""Cancellation: an exception raised in another thread's call, once, and never in the call after it.

The call's end and its cancellation race for one dictionary entry. Whoever takes it wins: a call that
finds it gone waits until the exception is set, and takes it before it answers.
Spec: CPython C API, ``PyThreadState_SetAsyncExc``.
"""

from __future__ import annotations

import threading

from kluis.enclave.runtime.failures import CancelInterrupt


class Running:
    """The calls that run now, and the threads they run in.

    A call begins by putting its thread under ``threads``, and then calls ``recall`` if ``early`` holds
    anything. It ends by taking its entry away; where that is gone, it calls ``absorb``.

    Attributes:
        threads: thread by call.
        early: calls that were cancelled before they began.
    """

    def __init__(self) -> None:
        self.threads: dict[int, int] = {}
        self.early: dict[int, None] = {}
        self._handed: dict[int, threading.Lock] = {}

    def recall(self, call: int) -> None:
        """Stop a call that was cancelled before it began.

        Raises:
            CancelInterrupt: it was.
        """
        if self.early.pop(call, self) is None:
            raise CancelInterrupt

    def absorb(self, call: int) -> None:
        """Take the interrupt of a call that found its entry gone; after this, none comes for it."""
        handed = self._handed.get(call)
        if handed is None:
            return
        try:
            handed.acquire()
            for _ in range(64):  # a backward jump is where the interpreter raises what was set
                pass
        except CancelInterrupt:
            pass
        self._handed.pop(call, None)

    def cancel(self, call: int) -> int | None:
        """Raise CancelInterrupt in the thread of ``call``, now or when it begins; for one thread's use.

        Returns:
            The thread, or None if no such call runs.
        """
        if call in self._handed:
            return None
        handed = self._handed[call] = held_lock()
        thread = self.threads.pop(call, None)
        if thread is None:
            self._remember(call)
            thread = self.threads.pop(call, None)
        if thread is None:
            self._handed.pop(call, None)
            return None
        try:
            _raise_in(thread)
        finally:
            handed.release()
        return thread

    def _remember(self, call: int) -> None:
        self.early[call] = None
        if len(self.early) > MAX_EARLY:
            self.early.pop(next(iter(self.early)), None)


def held_lock() -> threading.Lock:
    """A lock that is held already.

    Raises:
        MemoryError: there is no room for one.
    """
    try:
        lock = threading.Lock()
    except RuntimeError:  # how the interpreter says so
        raise MemoryError from None
    lock.acquire()
    return lock


def _raise_in(thread: int) -> None:
    try:
        import ctypes
    except ImportError:  # without it a cancelled call runs to its end, and its answer is dropped
        return
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(CancelInterrupt))


MAX_EARLY = 1024
