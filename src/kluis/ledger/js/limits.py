"""What a script may use, and the end of a process whose script cannot be ended."""

from __future__ import annotations

import contextlib
import faulthandler
from collections.abc import Iterator
from typing import Final

from kluis.errors import UsageError
from kluis.frozen import frozen

LEAST_HEAP: Final = 1 << 20
MOST_STACK: Final = 4 << 20
STANDARD_ERROR: Final = 2
"""Its number: what ``sys.stderr`` is at the time may be no file, or be missing."""


@frozen(kw_only=True)
class Limits:
    """What one call into a script may use.

    Attributes:
        seconds: of time, for each evaluation and each call.
        heap: bytes, for the engine's life; at least 1 MiB.
        stack: bytes, at most 4 MiB. A thread needs as much native stack, and 256 KiB.
        last: seconds after which the process ends, if a native operation of a script does not; None: never.
            Arithmetic on large integers, for one, is not interrupted by the other limit.
    """

    seconds: float = 1.0
    heap: int = 64 << 20
    stack: int = 1 << 20
    last: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 3600 or not (self.last is None or self.last > self.seconds):
            raise UsageError("script limits: want seconds up to 3600, and the last ones to be more")
        if self.heap < LEAST_HEAP or not 64 << 10 <= self.stack <= MOST_STACK:
            raise UsageError(
                f"script limits: want {LEAST_HEAP} bytes of heap or more, and 65536 to {MOST_STACK} of stack"
            )


@contextlib.contextmanager
def ending_the_process(limits: Limits) -> Iterator[None]:
    """End the process, with exit code 1 and its threads' places on standard error, after ``limits.last``.

    The interpreter's lock is held while a script runs, so nothing of Python could do it. There is one such
    alarm for each process: where it is set, scripts run in one thread at a time.
    """
    if limits.last is None:
        yield
        return
    faulthandler.dump_traceback_later(limits.last, exit=True, file=STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
