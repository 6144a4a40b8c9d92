"""A child of this process that continues in its memory, where a new interpreter would take too long."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path


class Forked:
    """A child that calls a function, and ends with the exit code that it returns.

    It leads another session, its folder is ``/``, and it has no other descriptor than those it is given. The
    caller must have one thread.

    Args:
        function: of the child.
        log: the child's output is appended to it.
        keep: descriptors that the child keeps.
    """

    def __init__(self, function: Callable[[], int], *, log: Path, keep: frozenset[int]) -> None:
        self._code: int | None = None
        self._pid = os.fork()
        if self._pid:
            return
        code = 1
        try:
            _prepare(log, keep)
            code = function()
        except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
            import traceback  # only an error needs it

            with contextlib.suppress(OSError):
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None if it runs."""
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def kill(self) -> None:
        """End it."""
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; return as :meth:`poll`."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code


def _prepare(log: Path, keep: frozenset[int]) -> None:
    os.setsid()
    os.chdir("/")
    null, out = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    start = 3
    for end in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        os.closerange(start, end)
        start = end + 1
