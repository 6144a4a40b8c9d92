"""Worker threads, started when there is work that no idle one can take, and never more than allowed."""

from __future__ import annotations

import _thread
import threading
from _queue import SimpleQueue  # queue itself would load more than it
from collections.abc import Callable

STACK_BYTES = 4 << 20
"""Deep enough for the deepest message that the interpreter's recursion limit lets a decoder follow."""
BEGIN_SECONDS = 5.0
"""How long a thread is given to begin; one that begins later is one more."""


class Workers:
    """A few threads and a bounded queue.

    Args:
        most: threads at once, at least 1.
        queued: jobs that may wait for one.
    """

    def __init__(self, most: int, queued: int) -> None:
        self._most = most
        self._queued = queued
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._open = 0

    def put(self, job: Callable[[], None]) -> bool:
        """Have ``job`` run in a worker.

        Returns:
            False if as many jobs wait as may, or no thread can be started.
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
            # threading.Thread waits for ever for one that ends before it begins, as where memory runs out.
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
