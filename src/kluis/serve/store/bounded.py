"""Give PostgreSQL connections a timeout, for a server that hangs or is unreachable, and commits that last.

A connection cannot distinguish these from a slow answer, and TCP reports an unreachable server only after
minutes or hours.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final

import psycopg
from sqlalchemy import Engine, event

CONNECT_SECONDS: Final = 30.0
# For a host that hangs within a transaction: the store's row is locked until the server gives up on it.
IDLE: Final = "SET idle_in_transaction_session_timeout = '30s'"
# Whatever the server's default is: with another, those that commit at once refuse each other.
ISOLATION: Final = "SET default_transaction_isolation = 'read committed'"
# A server may be set to confirm commits before they are safe. After a crash a store would be without what it
# acknowledged, and behind its witness, which is a rollback. The other settings of the name wait for the disk.
DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


def prepare(engine: Engine, seconds: float) -> None:
    """Make an engine's connections give up after ``seconds`` without an answer, and wait for the disk."""

    class Connection(psycopg.Connection[Any]):
        def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
            return super().wait(_until(gen, seconds), *args, **kwargs)

    def connect(_: object, __: object, args: Any, parameters: dict[str, Any]) -> Connection:
        options: dict[str, Any] = {"connect_timeout": int(min(CONNECT_SECONDS, seconds)), **parameters}
        made = Connection.connect(*args, **options)
        commits, made.autocommit = made.autocommit, True
        made.execute(f"{IDLE}; {ISOLATION}; {DURABLE}")
        made.autocommit = commits
        return made

    event.listen(engine, "do_connect", connect)


def _until(steps: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """Replaces psycopg's wait: it is called every tenth of a second while nothing arrives."""
    end = time.monotonic() + seconds
    try:
        wants = next(steps)
        while True:
            ready = yield wants
            if not ready and time.monotonic() > end:
                raise psycopg.OperationalError(f"no answer in {seconds:.0f} s")
            wants = steps.send(ready)
    except StopIteration as done:
        return done.value
