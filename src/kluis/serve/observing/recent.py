"""Spans of requests to an application of ``kluis serve-app``, which has no log: its enclaves list them.

Nothing that an image reports is trusted: a report of another form has no spans, and ends nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from datetime import datetime, timedelta
from typing import Annotated, Final, Self, TypeAlias

import msgspec

from kluis.enclave.attested_tls.meter import MOST_RECENT, OPERATION, TRACEPARENT, label_of
from kluis.errors import KluisError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.serve.fleet import Fleet
from kluis.serve.observing.traces import MOST_SECONDS, Traces, check

LOOK_SECONDS: Final = 1.0
MOST_BYTES: Final = 1 << 20

_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
_Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
_Row: TypeAlias = tuple[_Seconds, _Seconds, Annotated[int, msgspec.Meta(ge=0, le=599)], _Id, str | None]


def lines_of(rows: bytes, service: str, now: datetime) -> list[str]:
    """Log lines of requests, as :meth:`Traces.record` reads them.

    Args:
        rows: from an instance; unread if it is longer than 1 MiB, or of another form.
        service: the instance's.
        now: the time, aware.
    """
    if len(rows) > MOST_BYTES:
        return []
    try:
        parsed = msgspec.json.decode(rows, type=list[_Row])
    except UNREADABLE:
        return []
    return list(_lines(parsed[:MOST_RECENT], service, now))


def _lines(rows: list[_Row], service: str, now: datetime) -> Iterator[str]:
    for age, seconds, status, request_id, trace in rows:
        line = {
            "time": now - timedelta(seconds=age),
            "service": label_of(service),
            "operation": OPERATION,
            "status": status,
            "seconds": seconds,
            "request_id": request_id,
            "traceparent": trace if trace is not None and TRACEPARENT.fullmatch(trace) else None,
        }
        yield msgspec.json.encode(line).decode()


class RecentRequests:
    """Reads the requests of all instances about every second, and sends their spans; use it in a ``with``.

    Args:
        fleet: of the instances.
        traces: sends the spans.
        now: returns the time, aware.
    """

    def __init__(self, fleet: Fleet, traces: Traces, now: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._traces = traces
        self._now = now
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kluis-traces", daemon=True)

    def read(self) -> None:
        """Read all instances once; one that does not answer is left out."""
        for one in self._fleet.instances:
            with contextlib.suppress(KluisError, CancelledError):
                self._traces.record(lines_of(one.recent(), self._fleet.service, self._now()))

    def _run(self) -> None:
        self.read()  # from now on they keep their requests
        while not self._end.wait(LOOK_SECONDS):
            self.read()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read what was answered since, and end."""
        self._end.set()
        self._thread.join()
        self.read()


@contextlib.contextmanager
def tracing(otlp: str, fleet: Fleet, now: Callable[[], datetime]) -> Iterator[None]:
    """Send a span for each request to an application's fleet, for as long as the ``with`` lasts.

    Args:
        otlp: the collector's URL.
        fleet: of instances that list their requests.
        now: returns the time, aware.

    Raises:
        UsageError: not a URL of a collector.
    """
    with Traces(check(otlp)) as traces, RecentRequests(fleet, traces, now):
        yield
