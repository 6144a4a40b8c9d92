"""Wraps the store's ocalls: database errors are logged on the host in full, and reach the enclave without
details.

An enclave reports to its clients why it cannot work. The address of its host's database, and the host's user
name there, must not reach them.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from kluis.enclave.store import ocalls
from kluis.enclave.store.ocalls import HostSide
from kluis.errors import KluisError, UnavailableError, foreign

AWAY: Final = "database: unavailable"
AGAIN_SECONDS: Final = 60.0
"""How long the same error is not logged again: every request fails while the database is unreachable."""


class StoreLog:
    """Runs the store requests of one service's enclaves, and logs failures on the host.

    Args:
        service: name.
        write: writes lines to the host's log.
    """

    def __init__(self, service: str, write: Callable[[Iterable[str]], None]) -> None:
        self._service = service
        self._write = write
        self._lock = threading.Lock()
        self._reported, self._when = "", 0.0

    def functions(self, records: HostSide) -> dict[str, Callable[..., Any]]:
        """The ocalls of the service's store, by name."""
        return {name: functools.partial(self._ask, each) for name, each in ocalls.serving(records).items()}

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except KluisError as error:
            if error.code != "store_database":
                raise
            self._report(error)
            raise UnavailableError(AWAY, code=error.code) from None

    def _report(self, error: KluisError) -> None:
        now = time.monotonic()
        with self._lock:
            if error.message == self._reported and now - self._when < AGAIN_SECONDS:
                return
            self._reported, self._when = error.message, now
        self._write([f"store {self._service}: {foreign(error.message)} (hint: {error.hint})"])
