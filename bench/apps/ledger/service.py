"""A ledger with three more endpoints, for its rows: fill it, time a commit inside, and answer nothing."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import msgspec

from kluis.ledger.store import Transaction
from kluis.services.ledger import inside
from kluis.services.ledger.application import State
from kluis.services.ledger.azure.entries import DEFAULT
from kluis.services.ledger.inside import app as app
from kluis.services.ledger.inside import application
from kluis.services.ledger.running.engine import Engine, Result
from kluis.services.ledger.tables import ENTRIES, Stored

AT_ONCE = 500
tasks: set[asyncio.Task[None]] = set()


class Count(msgspec.Struct):
    """How many entries, of 1 KiB."""

    count: int


class Seconds(msgspec.Struct):
    """What each commit took."""

    seconds: list[float]


measured = Seconds([])


@application.endpoint("POST /fill", auth="certificate", mode="read")
def fill(state: State, body: Count) -> Seconds:
    """Begin to write many entries, without a request for each."""
    _start(_fill(body.count))
    return measured


@application.endpoint("POST /commits", auth="certificate", mode="read")
def commits(state: State, body: Count) -> Seconds:
    """Begin to write entries one after the other; ``GET /commits`` has their times once all are written."""
    measured.seconds = []
    _start(_time(body.count))
    return measured


@application.endpoint("GET /commits", auth="certificate", mode="read")
def read_commits(state: State) -> Seconds:
    """The times of the commits."""
    return measured


@application.endpoint("POST /empty", auth="certificate", mode="read")
def empty(state: State) -> dict[str, int]:
    """Do nothing, for a caller with a certificate."""
    return {}


@application.endpoint("GET /empty", auth="certificate", mode="read")
def read_empty(state: State) -> dict[str, int]:
    """Likewise."""
    return {}


def _start(work: Any) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _engine() -> Engine:
    return inside._built[0].node.engine


def _work(transaction: Transaction) -> Result:
    stored = Stored(os.urandom(512).hex(), "A" * 44, ())
    transaction.put(ENTRIES, DEFAULT.encode(), msgspec.json.encode(stored))
    return Result(None, os.urandom(32))


async def _fill(count: int) -> None:
    engine = _engine()
    for _ in range(count // AT_ONCE):
        await asyncio.gather(*(engine.write(_work) for _ in range(AT_ONCE)))


async def _time(count: int) -> None:
    engine, seconds = _engine(), []
    for _ in range(count):
        begun = time.perf_counter()
        await engine.write(_work)
        seconds.append(time.perf_counter() - begun)
    measured.seconds = seconds
