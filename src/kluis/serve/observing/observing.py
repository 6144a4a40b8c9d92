"""Serve metrics and send traces while services run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, start_http_server

from kluis.errors import UnavailableError
from kluis.serve.addresses import Address, address_of, reason_of
from kluis.serve.fleet import Fleet
from kluis.serve.host_calls import write
from kluis.serve.observing.metrics import HostMetrics


@contextlib.contextmanager
def metrics(where: str, fleets: Callable[[], Sequence[Fleet]]) -> Iterator[str]:
    """Serve the metrics of fleets over plain HTTP for as long as the ``with`` lasts; yields their URL.

    Args:
        where: ``ADDRESS:PORT``.
        fleets: returns the fleets that run now.

    Raises:
        UsageError: not an address and a port.
        UnavailableError: the port is in use.
    """
    address = address_of(where, "--metrics", "127.0.0.1:9464")
    registry = CollectorRegistry()
    registry.register(HostMetrics(fleets))
    try:
        server, thread = start_http_server(address.port, address.host, registry)
    except OSError as error:
        raise UnavailableError(
            f"metrics: cannot listen on {address}: {reason_of(error)}",
            hint="--metrics ADDRESS:PORT names another; port 0 takes a free one",
        ) from None
    try:
        yield f"http://{Address(address.host, server.server_port)}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def logging(otlp: str | None) -> Iterator[Callable[[Iterable[str]], None]]:
    """How the lines of the services' logs are written: to standard error, and as spans to a collector.

    Args:
        otlp: the collector's URL; None: no spans.

    Raises:
        UsageError: not a URL of a collector.
    """
    if otlp is None:
        yield write
        return
    from kluis.serve.observing.traces import Traces, check  # the extra otel

    with Traces(check(otlp)) as traces:

        def both(lines: Iterable[str]) -> None:
            recent = list(lines)
            write(recent)
            traces.record(recent)

        yield both
