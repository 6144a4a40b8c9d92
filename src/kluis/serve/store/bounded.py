"""Connections to PostgreSQL that do not wait for ever: for a server that hangs, or one that nothing reaches.

A connection tells neither from a long answer, and TCP tells the second after minutes or hours alone.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final

import psycopg
from sqlalchemy import Engine, event

CONNECT_SECONDS: Final = 30.0
# Of a host that hangs within a change: the store's row is locked until the server gives up on it.
IDLE: Final = "SET idle_in_transaction_session_timeout = '30s'"


def bound(engine: Engine, seconds: float) -> None:
    """Have an engine's connections give up on what is not answered in ``seconds``."""

    class Connection(psycopg.Connection[Any]):
        def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
            return super().wait(_until(gen, seconds), *args, **kwargs)

    def connect(_: object, __: object, args: Any, parameters: dict[str, Any]) -> Connection:
        options: dict[str, Any] = {"connect_timeout": int(min(CONNECT_SECONDS, seconds)), **parameters}
        made = Connection.connect(*args, **options)
        commits, made.autocommit = made.autocommit, True
        made.execute(IDLE)
        made.autocommit = commits
        return made

    event.listen(engine, "do_connect", connect)


def _until(steps: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """What psycopg waits for, which is told every tenth of a second that nothing came."""
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
