"""Collect a service's log lines inside, and pass them to the host in batches."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from kluis.errors import KluisError

MOST_WAITING: Final = 4096
BATCH: Final = 256
PAUSE_SECONDS: Final = 0.1
MOST_LINE: Final = 2048


class Logbook(logging.Handler):
    """Receives records of the loggers under ``kluis.services``, and passes their lines to the host.

    If the host does not accept them, the oldest lines are lost, but never a request; the next line states how
    many.

    Args:
        give: passes lines to the host.
    """

    def __init__(self, give: Callable[[list[str]], None]) -> None:
        super().__init__(logging.INFO)
        self._give = give
        self._lines: deque[str] = deque()
        self._lost = 0
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="kluis-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Store a line for the next batch; it does not include an exception's text."""
        if len(self._lines) >= MOST_WAITING:
            self._lines.popleft()
            self._lost += 1
        self._lines.append(record.getMessage()[:MOST_LINE])
        self._wake.set()

    def flush(self) -> None:
        """Pass on the stored lines."""
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(BATCH, len(self._lines)))]
            if self._lost:
                batch.append(f'{{"lost_lines":{self._lost}}}')
                self._lost = 0
            try:
                self._give(batch)
            except KluisError:
                self._lost += len(batch)
                return

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self.flush()
            threading.Event().wait(PAUSE_SECONDS)
