"""Cancellation: an exception raised in another thread's call, once, and never in the call after it.

The call's end and its cancellation race for one dictionary entry. Whoever takes it wins: a call that
finds it gone waits until the exception is set, and takes it before it answers.
Spec: CPython C API, ``PyThreadState_SetAsyncExc``.
"""

from __future__ import annotations

import threading

from kluis.enclave.outward import CancelInterrupt

__all__ = ["Running"]


class Running:
    """The calls that run now, and the threads they run in."""

    def __init__(self) -> None:
        self._threads: dict[int, int] = {}
        self._handed: dict[int, threading.Lock] = {}

    def __contains__(self, call: int) -> bool:
        return call in self._threads or call in self._handed

    def begin(self, call: int) -> None:
        """Say that ``call`` runs in this thread; from here on CancelInterrupt may be raised."""
        self._threads[call] = threading.get_ident()

    def end(self, call: int) -> bool:
        """Say that ``call`` has ended; once this returns, CancelInterrupt is not raised for it any more.

        Returns:
            Whether it ran to its end; False if it was cancelled.
        """
        if self._threads.pop(call, None) is not None:
            return True
        handed = self._handed[call]
        try:
            handed.acquire()
            for _ in range(64):  # a backward jump is where the interpreter raises what was set
                pass
        except CancelInterrupt:
            pass
        self._handed.pop(call, None)
        return False

    def cancel(self, call: int) -> int | None:
        """Raise CancelInterrupt in the thread of ``call``; one thread alone calls this.

        Returns:
            The thread, or None if no such call runs.
        """
        handed = threading.Lock()
        handed.acquire()
        if call in self._handed:
            return None
        self._handed[call] = handed
        thread = self._threads.pop(call, None)
        if thread is None:
            self._handed.pop(call, None)
            return None
        try:
            _raise_in(thread)
        finally:
            handed.release()
        return thread


def _raise_in(thread: int) -> None:
    try:
        import ctypes
    except ImportError:  # without it a cancelled call runs to its end, and its answer is dropped
        return
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(CancelInterrupt))
