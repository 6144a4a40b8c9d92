"""Requests that an enclave lists, as its host turns them into spans."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from kluis.enclave.attested_tls.meter import MOST_RECENT, Meter

recent = pytest.importorskip("kluis.serve.observing.recent", reason="opentelemetry: extra otel")

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ROW = [1.5, 0.25, 200, "ab" * 16, TRACE]


def test_a_meter_lists_requests_once_it_is_read() -> None:
    """Nothing is kept before the first read; each request is listed once, with its trace."""
    meter = Meter("web")
    meter.begin()
    meter.end(200, 0.1, [(b"traceparent", TRACE.encode())])
    assert json.loads(meter.recent()) == []
    for headers in (
        [(b"authorization", b"secret"), (b"traceparent", TRACE.encode())],
        [(b"traceparent", b"00-secret")],
        [(b"traceparent", TRACE.encode())] * 2,
    ):
        meter.begin()
        meter.end(503, 0.25, headers)
    rows = json.loads(meter.recent())
    assert [row[1:3] for row in rows] == [[0.25, 503]] * 3
    assert [row[4] for row in rows] == [TRACE, None, None]
    assert len({row[3] for row in rows}) == 3
    assert json.loads(meter.recent()) == []


def test_a_meter_keeps_a_limited_number() -> None:
    """A host that stops reading costs the enclave no more memory."""
    meter = Meter("web")
    meter.recent()
    for number in range(MOST_RECENT + 10):
        meter.begin()
        meter.end(200, float(number))
    rows = json.loads(meter.recent())
    assert len(rows) == MOST_RECENT
    assert rows[-1][1] == MOST_RECENT + 9


def test_a_row_becomes_a_line() -> None:
    """The time is the host's, less the age; the service's name is a label."""
    (line,) = recent.lines_of(json.dumps([ROW]).encode(), "my web", NOW)
    assert json.loads(line) == {
        "time": "2026-06-01T11:59:58.500000Z",
        "service": "my_web",
        "operation": "http",
        "status": 200,
        "seconds": 0.25,
        "request_id": "ab" * 16,
        "traceparent": TRACE,
    }


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"{}",
        b"[[]]",
        b"\xff",
        json.dumps([[*ROW, 1]]).encode(),
        json.dumps([[-1, *ROW[1:]]]).encode(),
        json.dumps([[1e300, *ROW[1:]]]).encode(),
        json.dumps([[1, 1, 999, *ROW[3:]]]).encode(),
        json.dumps([[1, 1, 200, "secret", None]]).encode(),
        b" " * (1 << 20) + b"[]x",
    ],
    ids=lambda rows: rows[:24].decode("latin-1"),
)
def test_reports_of_another_form(rows: bytes) -> None:
    """An image that reports something else has no spans, and ends nothing."""
    assert recent.lines_of(rows, "web", NOW) == []


def test_a_trace_that_carries_text() -> None:
    """An image cannot write text into a span by way of the trace."""
    (line,) = recent.lines_of(json.dumps([[*ROW[:4], "secret"]]).encode(), "web", NOW)
    assert json.loads(line)["traceparent"] is None


def test_more_rows_than_a_meter_lists() -> None:
    """The rest is dropped."""
    assert len(recent.lines_of(json.dumps([[0, 0, 0, "0" * 32, None]] * 5000).encode(), "web", NOW)) == 4096
