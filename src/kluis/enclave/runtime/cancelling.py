"""Cancellation: raise an exception in another thread's call, once, and never in the next call.

The call's end and its cancellation race for one dictionary entry. If the call finds it gone, it waits until
the exception is set, and absorbs it before it answers. Spec: CPython C API, ``PyThreadState_SetAsyncExc``.
"""

from __future__ import annotations

import threading

from kluis.enclave.runtime.failures import CancelInterrupt


class Running:
    """The running calls and their threads.

    A call begins by storing its thread in ``threads``, and then calls ``recall`` if ``early`` is not empty.
    It ends by removing its entry; if that is gone, it calls ``absorb``.

    Attributes:
        threads: thread by call.
        early: calls that were cancelled before they began.
    """

    def __init__(self) -> None:
        self.threads: dict[int, int] = {}
        self.early: dict[int, None] = {}
        self._handed: dict[int, threading.Lock] = {}
        self._cancelling = threading.Lock()

    def recall(self, call: int) -> None:
        """Stop a call that was cancelled before it began.

        Raises:
            CancelInterrupt: it was.
        """
        if self.early.pop(call, self) is None:
            raise CancelInterrupt

    def absorb(self, call: int) -> None:
        """Absorb the interrupt of a call that found its entry gone; after this, none arrives for it."""
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
        """Raise CancelInterrupt in the thread of ``call``, now or when it begins.

        Returns:
            The thread, or None if no such call is running. If it is the calling thread, that one raises.
        """
        with self._cancelling:  # a thread and a loop may read the host's frames at once
            return self._cancel(call)

    def _cancel(self, call: int) -> int | None:
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
            if thread != threading.get_ident():
                _raise_in(thread)
        finally:
            handed.release()
        return thread

    def _remember(self, call: int) -> None:
        self.early[call] = None
        if len(self.early) > MAX_EARLY:
            self.early.pop(next(iter(self.early)), None)


def held_lock() -> threading.Lock:
    """Create a lock in the locked state.

    Raises:
        MemoryError: there is no memory for it.
    """
    try:
        lock = threading.Lock()
    except RuntimeError:  # raised by the interpreter in this case
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
