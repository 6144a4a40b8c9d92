"""A service's metrics and log: counts, times and one line for each request; never any content.

A line names the operation, not the path: names of keys are confidential.
"""

from __future__ import annotations

import logging
import secrets
from datetime import datetime
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request in the log.

    Attributes:
        time: RFC 3339.
        service, operation: their names.
        status: HTTP status.
        seconds: duration.
        request_id: as in the response's header.
        code: of the refusal.
        bug: the class of an internal exception, without its message.
        traceparent: of the client's trace, if it sent one. Spec: W3C Trace Context, "Traceparent Header".
    """

    time: datetime
    service: str
    operation: str
    status: int
    seconds: float
    request_id: str
    code: str | None = None
    bug: str | None = None
    traceparent: str | None = None


class Happening(msgspec.Struct, frozen=True):
    """An event of a service's upkeep.

    Attributes:
        event: its kind.
        entry: its number in the service's record, if it has one: the record may contain more than a log.
        code: of the error that ended it.
    """

    event: str
    entry: int | None = None
    code: str | None = None


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """An upkeep event in the log; ``time`` is RFC 3339."""

    time: datetime
    service: str
    event: str
    entry: int | None = None
    code: str | None = None


class Telemetry:
    """Counts requests and events, and writes log lines.

    Processes of one service answer on one address, and each counts for itself. A label distinguishes them; it
    is random, and new at each start.

    Args:
        service: name.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._instance = secrets.token_hex(4)
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kluis_requests",
            "Requests answered.",
            ["service", "instance", "operation", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "kluis_request_seconds",
            "Seconds from a request's head to its answer, its body's way here among them.",
            ["service", "instance", "operation"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._events = Counter(
            "kluis_events", "What a service did or found by itself.", ["service", "instance", "event"],
            registry=self._registry,
        )  # fmt: skip
        self.running = Gauge(
            "kluis_requests_running",
            "Requests being answered.",
            ["service", "instance"],
            registry=self._registry,
        ).labels(service, self._instance)
        self._log = logging.getLogger(f"kluis.services.{service}")
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def record(self, line: Line) -> None:
        """Count a request, and write its line."""
        key = (line.operation, line.status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = (
                self._requests.labels(self._service, self._instance, line.operation, str(line.status)),
                self._seconds.labels(self._service, self._instance, line.operation),
            )
        child[0].inc()
        child[1].observe(line.seconds)
        level = logging.ERROR if line.status >= 500 else logging.INFO
        if self._log.isEnabledFor(level):
            self._log.log(level, "%s", msgspec.json.encode(line).decode())

    def record_event(self, what: Happening, time: datetime) -> None:
        """Count an event, and write its line."""
        self._events.labels(self._service, self._instance, what.event).inc()
        line = Told(time, self._service, what.event, what.entry, what.code)
        level = logging.INFO if what.code is None else logging.ERROR
        self._log.log(level, "%s", msgspec.json.encode(line).decode())

    def metrics(self) -> bytes:
        """All counts, in Prometheus' text format."""
        return generate_latest(self._registry)
