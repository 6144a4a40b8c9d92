"""Back-off: retry a failed operation after one second, two, four, at most a minute, and report the error
meanwhile.

Callers in between get the last error and its age: they do not wait for an operation that will fail again, and
still see the reason. Time is counted from the end of the failed operation, which may be slow.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeVar

from kluis.errors import KluisError, UnavailableError

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 60.0
MOST_KEPT: Final = 256
T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class _Failed:
    """The last failure: the error, its time, the current delay, and whether a retry is in progress."""

    error: KluisError
    at: float
    wait: float
    asking: bool = False


class Backoff:
    """Runs an operation, and remembers its failures. Thread-safe."""

    def __init__(self) -> None:
        self._failed: dict[object, _Failed] = {}
        self._lock = threading.Lock()

    def attempt(self, what: object, ask: Callable[[], T]) -> T:
        """Run the operation, unless it failed recently, or another thread is retrying it now.

        Args:
            what: identifies the operation; each has its own delays. Hashable.
            ask: runs it. Its errors are rebuilt from message, hint and code.

        Raises:
            KluisError: from ``ask``; or the error of the last attempt, with its age in the message.
        """
        with self._lock:
            before = self._failed.get(what)
            if before is not None:
                if before.asking or monotonic() - before.at < before.wait:
                    raise _again(before)
                before.asking = True
        error: KluisError | None = None
        try:
            return ask()
        except KluisError as raised:
            error = raised
            raise
        finally:
            self._note(what, before, error)

    def _note(self, what: object, before: _Failed | None, error: KluisError | None) -> None:
        with self._lock:
            self._failed.pop(what, None)
            if error is None:
                return
            # Several threads that began before any failure fail once, all together.
            wait = FIRST_SECONDS if before is None else min(before.wait * 2, LONGEST_SECONDS)
            if len(self._failed) >= MOST_KEPT:
                self._failed.pop(next(iter(self._failed)))
            self._failed[what] = _Failed(error, monotonic(), wait)


def _again(failed: _Failed) -> KluisError:
    """A copy of the error: an exception raised twice keeps its first traceback."""
    error, ago = failed.error, monotonic() - failed.at
    when = (
        ("is requested again now") if failed.asking else f"next request in {max(failed.wait - ago, 0):.0f} s"
    )
    message = f"{error.message} (so it was {ago:.0f} s ago; {when})"
    kind = type(error) if type(error).__init__ is KluisError.__init__ else UnavailableError
    return kind(message, hint=error.hint, code=error.code)
