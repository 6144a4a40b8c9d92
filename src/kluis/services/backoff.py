"""Back-off: what failed is asked for again after a second, two, four, at most a minute; and told meanwhile.

Whoever comes in between hears what the last one heard, and how long ago that was: nobody waits for what will
fail again, and the reason is not hidden. Time is counted from the end of what failed, for it may be slow.
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
    """What failed last: how, when, how long nobody asks, and whether somebody does now."""

    error: KluisError
    at: float
    wait: float
    asking: bool = False


class Backoff:
    """Asks, and remembers what failed. Thread-safe."""

    def __init__(self) -> None:
        self._failed: dict[object, _Failed] = {}
        self._lock = threading.Lock()

    def attempt(self, what: object, ask: Callable[[], T]) -> T:
        """Ask, unless that failed a little while ago, or failed and somebody else asks now.

        Args:
            what: is asked for: of these each has its own waits. Hashable.
            ask: asks. Its errors are rebuilt from message, hint and code.

        Raises:
            KluisError: what ``ask`` raised; or the last time, and then its message says when that was.
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
            # Several who began when nothing had failed yet fail once, all together.
            wait = FIRST_SECONDS if before is None else min(before.wait * 2, LONGEST_SECONDS)
            if len(self._failed) >= MOST_KEPT:
                self._failed.pop(next(iter(self._failed)))
            self._failed[what] = _Failed(error, monotonic(), wait)


def _again(failed: _Failed) -> KluisError:
    """The error once more: a new one, for what is raised twice keeps whoever raised it first."""
    error, ago = failed.error, monotonic() - failed.at
    when = (
        ("is requested again now") if failed.asking else f"next request in {max(failed.wait - ago, 0):.0f} s"
    )
    message = f"{error.message} (so it was {ago:.0f} s ago; {when})"
    kind = type(error) if type(error).__init__ is KluisError.__init__ else UnavailableError
    return kind(message, hint=error.hint, code=error.code)
