"""What a service's enclave asks of its database: what fails there is told whole in the host's log alone.

An enclave tells its clients why it cannot work. Where its host's database is, and as whom the host is known
there, is no affair of theirs.
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
"""How long the same is not said again: a database that is away fails every request."""


class StoreLog:
    """Asks for the enclaves of one service, and says in the host's log why there was no answer.

    Args:
        service: its name.
        write: puts lines into the host's log.
    """

    def __init__(self, service: str, write: Callable[[Iterable[str]], None]) -> None:
        self._service = service
        self._write = write
        self._lock = threading.Lock()
        self._reported, self._when = "", 0.0

    def functions(self, records: HostSide) -> dict[str, Callable[..., Any]]:
        """The ocalls of the service's store, by the names that an enclave calls them."""
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
