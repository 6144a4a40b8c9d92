"""Log lines on their way out: in order, in batches, and never at a request's cost."""

from __future__ import annotations

import logging
import threading
import time

from kluis.errors import UnavailableError
from kluis.services.logbook import BATCH, MOST_LINE, MOST_WAITING, Logbook


def record(text: str, error: BaseException | None = None) -> logging.LogRecord:
    """One record, as a logger makes it."""
    told = (type(error), error, None) if error else None
    return logging.LogRecord("kluis.services.x", logging.INFO, "x.py", 1, "%s", (text,), told)


class Host:
    """Takes lines, or does not."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.batches: list[int] = []
        self.deaf = False
        self.refused = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def take(self, lines: list[str]) -> None:
        """One batch."""
        self.free.wait()
        if self.deaf:
            self.refused.set()
            raise UnavailableError("the host does not listen")
        self.lines += lines
        self.batches.append(len(lines))

    def until(self, count: int) -> None:
        """Wait for so many lines."""
        end = time.monotonic() + 120
        while len(self.lines) < count and time.monotonic() < end:
            time.sleep(0.01)


def test_lines_reach_the_host_in_order_and_in_batches() -> None:
    """Many lines go over in few calls, none of them twice, an exception's text not at all."""
    host = Host()
    book = Logbook(host.take)
    for number in range(600):
        book.emit(record(f"line {number}", ValueError("a secret")))
    host.until(600)
    assert host.lines == [f"line {number}" for number in range(600)]
    assert max(host.batches) <= BATCH
    assert len(host.batches) < 100


def test_a_host_that_does_not_listen_costs_lines_alone() -> None:
    """The oldest lines are lost, their number is logged, and no caller waits."""
    host = Host()
    host.free.clear()
    book = Logbook(host.take)

    def log() -> None:
        for number in range(MOST_WAITING + 1000):
            book.emit(record(f"line {number}"))

    logs = threading.Thread(target=log, daemon=True)
    logs.start()
    logs.join(120)
    assert not logs.is_alive(), "it waits for the host"
    host.free.set()
    host.until(MOST_WAITING)
    lost = [line for line in host.lines if line.startswith('{"lost_lines":')]
    kept = [line for line in host.lines if not line.startswith('{"lost_lines":')]
    assert kept[-1] == f"line {MOST_WAITING + 999}"
    assert sum(int(line.partition(":")[2].rstrip("}")) for line in lost) + len(kept) == MOST_WAITING + 1000


def test_lines_that_could_not_be_given_are_counted() -> None:
    """A batch that the host refuses is lost, and the next one reports it."""
    host = Host()
    host.deaf = True
    book = Logbook(host.take)
    book.emit(record("one"))
    assert host.refused.wait(120)
    host.deaf = False
    book.emit(record("two"))
    host.until(2)
    assert host.lines == ["two", '{"lost_lines":1}']


def test_a_line_is_bounded() -> None:
    """No line is longer than the bound."""
    host = Host()
    Logbook(host.take).emit(record("x" * 10_000))
    host.until(1)
    assert host.lines == ["x" * MOST_LINE]
