"""Examine the machine in a thread: starting a kernel under KVM takes up to 20 seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from kluis.errors import KluisError
from kluis.tee.doctor import Finding, examine


class Examination:
    """The last findings about this machine, and the examination that runs.

    Args:
        now: returns the time, aware.
        run: examines the machine.
    """

    def __init__(self, now: Callable[[], datetime], run: Callable[[], Sequence[Finding]] = examine) -> None:
        self._now = now
        self._run = run
        self._lock = threading.Lock()
        self._running = False
        self._found: tuple[datetime, tuple[Finding, ...]] | None = None
        self._fault: KluisError | None = None

    def start(self) -> None:
        """Begin an examination, unless one runs."""
        with self._lock:
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._examine, name="kluis-examination", daemon=True).start()

    def _examine(self) -> None:
        try:
            findings = tuple(self._run())
            with self._lock:
                self._found, self._fault = (self._now(), findings), None
        except KluisError as fault:
            with self._lock:
                self._fault = fault
        finally:
            with self._lock:
                self._running = False

    @property
    def running(self) -> bool:
        """Whether an examination runs."""
        with self._lock:
            return self._running

    @property
    def fault(self) -> KluisError | None:
        """Why the last examination found nothing; None if it did."""
        with self._lock:
            return self._fault

    @property
    def found(self) -> tuple[datetime, tuple[Finding, ...]] | None:
        """When the last examination ended, and its findings; None before the first."""
        with self._lock:
            return self._found
