"""Traces for OpenTelemetry: one span for each request, written by the host from the services' log lines.

A span has what the log has: service, operation, status, times, and an error's code. If the client sent a
``traceparent``, the span belongs to the client's trace. Bodies, keys, names and claims stay inside.

Spec: OpenTelemetry, "OTLP Specification"; W3C Trace Context, "Traceparent Header".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import kluis
from kluis.errors import UsageError
from kluis.formats.encoding.unreadable import UNREADABLE

PATH: Final = "/v1/traces"
EXPORT_SECONDS: Final = 10
MOST_LINE: Final = 4096
MOST_WORD: Final = 128
MOST_SECONDS: Final = 1e6
_END: Final = 1 << 63  # of a span's times, nanoseconds: one beyond would lose its whole batch


class _Request(msgspec.Struct):
    """The fields of a request's line that a span has; others are ignored."""

    time: Annotated[datetime, msgspec.Meta(tz=True)]
    service: str
    operation: str
    status: Annotated[int, msgspec.Meta(ge=0, le=999)]
    seconds: Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
    request_id: str
    code: str | None = None
    traceparent: str | None = None


def check(url: str) -> str:
    """The address to which spans are sent.

    Args:
        url: of an OTLP/HTTP collector, such as ``http://127.0.0.1:4318``.

    Raises:
        UsageError: another form.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise UsageError(f"--otlp: want http://HOST:PORT of a collector, got {url[:80]!a}")
    return url.rstrip("/") + ("" if parts.path.strip("/") else PATH)


class Traces:
    """Sends a span for each request to a collector, in the background; use it in a ``with``.

    A collector that is unreachable delays no request: spans are dropped then.

    Args:
        url: from :func:`check`.
    """

    def __init__(self, url: str) -> None:
        resource = Resource({"service.name": "kluis", "service.version": kluis.__version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("kluis.serve", kluis.__version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, lines: Iterable[str]) -> None:
        """Write a span for each line that is of a request."""
        for line in lines:
            if len(line) <= MOST_LINE and line.startswith("{"):
                with contextlib.suppress(*UNREADABLE):
                    self._span(msgspec.json.decode(line, type=_Request))

    def _span(self, request: _Request) -> None:
        carrier = {} if request.traceparent is None else {"traceparent": request.traceparent}
        end = round(request.time.timestamp() * 1e9)
        start = end - round(request.seconds * 1e9)
        if not 0 <= start <= end < _END:
            return
        span = self._tracer.start_span(
            f"{request.service[:MOST_WORD]} {request.operation[:MOST_WORD]}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=start,
            attributes={
                "kluis.service": request.service[:MOST_WORD],
                "kluis.operation": request.operation[:MOST_WORD],
                "kluis.request_id": request.request_id[:MOST_WORD],
                "http.response.status_code": request.status,
            },
        )
        if request.code is not None:
            span.set_attribute("error.type", request.code[:MOST_WORD])
        if request.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()
