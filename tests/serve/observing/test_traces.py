"""Spans of requests, as a collector receives them."""

from __future__ import annotations

import json

import pytest

from kluis.errors import UsageError
from tests.serve.observing.collector import Collector, attributes

traces = pytest.importorskip("kluis.serve.observing.traces", reason="opentelemetry: extra otel")

LINE = {
    "time": "2026-06-01T00:00:10Z",
    "service": "keyvault",
    "operation": "GetKey",
    "status": 403,
    "seconds": 2.5,
    "request_id": "ab" * 16,
    "code": "Forbidden",
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_line_becomes_a_span() -> None:
    """Times, names, status, and the client's trace as its parent; other fields of a line are not sent."""
    with Collector() as collector:
        with traces.Traces(traces.check(collector.url)) as sent:
            sent.record(["store keyvault: full", json.dumps({**LINE, "traceparent": TRACE, "more": "x"})])
        (span,) = collector.spans
    assert span.name == "keyvault GetKey"
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    assert (span.end_time_unix_nano - span.start_time_unix_nano) == 2_500_000_000
    assert attributes(span) == {
        "kluis.service": "keyvault",
        "kluis.operation": "GetKey",
        "kluis.request_id": "ab" * 16,
        "http.response.status_code": 403,
        "error.type": "Forbidden",
    }


def test_a_client_without_a_trace() -> None:
    """Its request is the root of a trace; the span of a client whose trace is not sampled is not sent."""
    with Collector() as collector:
        with traces.Traces(traces.check(collector.url)) as sent:
            sent.record([json.dumps(LINE), json.dumps({**LINE, "traceparent": TRACE[:-1] + "0"})])
        (span,) = collector.spans
    assert span.parent_span_id == b""


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        "[]",
        '{"time": 1}',
        json.dumps({**LINE, "status": "x"}),
        json.dumps({**LINE, "status": 1 << 70}),
        json.dumps({**LINE, "seconds": 1e308}),
        json.dumps({**LINE, "time": "0001-01-01T00:00:00Z"}),
        json.dumps({**LINE, "time": "9999-12-31T23:59:59Z"}),
        json.dumps({**LINE, "time": "2026-06-01T00:00:10"}),
        "{" + "x" * 5000,
    ],
)
def test_other_lines(line: str) -> None:
    """What is not a request's line is no span, and no error."""
    with Collector() as collector:
        with traces.Traces(traces.check(collector.url)) as sent:
            sent.record([line])
        assert collector.spans == []


def test_a_collector_that_is_away() -> None:
    """Spans are dropped; nobody waits for them."""
    with Collector() as collector:
        url = collector.url
    with traces.Traces(traces.check(url)) as sent:
        sent.record([json.dumps(LINE)])


@pytest.mark.parametrize(
    "url", ["127.0.0.1:4318", "file:///etc/passwd", "http://", "http://a:b@c", "http://a/?b"]
)
def test_a_url_that_is_none(url: str) -> None:
    """A collector is an address of HTTP without a name and a password in it."""
    with pytest.raises(UsageError, match="--otlp: want http://HOST:PORT of a collector"):
        traces.check(url)


def test_the_path_of_the_specification() -> None:
    """It is added where the address has none."""
    assert traces.check("http://127.0.0.1:4318/") == "http://127.0.0.1:4318/v1/traces"
    assert traces.check("https://collector/own") == "https://collector/own"
