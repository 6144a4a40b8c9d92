"""A service's log lines, on their way from inside to the host: gathered, and handed over in batches."""

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
    """Takes records of the loggers under ``kluis.services``, and gives the host their lines.

    A host that does not take them costs the oldest lines, and never a request; how many were lost is the
    next line.

    Args:
        give: hands lines to the host.
    """

    def __init__(self, give: Callable[[list[str]], None]) -> None:
        super().__init__(logging.INFO)
        self._give = give
        self._lines: deque[str] = deque()
        self._lost = 0
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="kluis-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line for the next batch; an exception's text is no part of it."""
        if len(self._lines) >= MOST_WAITING:
            self._lines.popleft()
            self._lost += 1
        self._lines.append(record.getMessage()[:MOST_LINE])
        self._wake.set()

    def flush(self) -> None:
        """Hand over what is there."""
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
