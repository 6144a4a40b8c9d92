"""Worker threads, started when there is work and no idle thread, up to a limit."""

from __future__ import annotations

import _thread
import threading
from _queue import SimpleQueue  # queue itself would load more than it
from collections.abc import Callable

STACK_BYTES = 4 << 20
"""Enough for the deepest message that a decoder follows within the interpreter's recursion limit."""
BEGIN_SECONDS = 5.0
"""How long to wait for a thread's start; one that starts later is an extra one."""


class Workers:
    """A few threads and a bounded queue.

    Args:
        most: threads at once, at least 1.
        queued: limit of waiting jobs.
    """

    def __init__(self, most: int, queued: int) -> None:
        self._most = most
        self._queued = queued
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._open = 0

    def put(self, job: Callable[[], None]) -> bool:
        """Run ``job`` in a worker.

        Returns:
            False if the queue is full, or no thread can be started.
        """
        with self._lock:
            if self._open >= self._most + self._queued:
                return False
            if self._open >= self._started and self._started < self._most and self._start():
                self._started += 1
            if not self._started:
                return False
            self._jobs.put(job)
            self._open += 1
        return True

    def _start(self) -> bool:
        begun = threading.Lock()
        begun.acquire()
        before = threading.stack_size(STACK_BYTES)
        try:
            # threading.Thread waits without timeout for a thread that ends before it starts, as when memory
            # runs out.
            _thread.start_new_thread(self._work, (begun,))
        except (RuntimeError, MemoryError):
            return False
        finally:
            threading.stack_size(before)
        return begun.acquire(timeout=BEGIN_SECONDS)

    def _work(self, begun: threading.Lock) -> None:
        begun.release()
        while True:
            job = self._jobs.get()
            try:
                job()
            finally:
                with self._lock:
                    self._open -= 1
