"""Serve metrics and send traces while services run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, start_http_server

from kluis.errors import UnavailableError, UsageError
from kluis.serve.fleet import Fleet
from kluis.serve.host_calls import write
from kluis.serve.observing.metrics import HostMetrics


class Address(NamedTuple):
    """Where metrics are served, over plain HTTP."""

    host: str
    port: int


def address_of(text: str) -> Address:
    """Parse ``ADDRESS:PORT``.

    Raises:
        UsageError: another form.
    """
    host, _, port = text.rpartition(":")
    inner = host.removeprefix("[").removesuffix("]")
    if not inner or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise UsageError(f"--metrics: want ADDRESS:PORT, got {text[:80]!a}", hint="--metrics 127.0.0.1:9464")
    return Address(inner, int(port))


@contextlib.contextmanager
def metrics(address: Address, fleets: Callable[[], Sequence[Fleet]]) -> Iterator[str]:
    """Serve the metrics of fleets for as long as the ``with`` lasts; yields their address.

    Raises:
        UnavailableError: the port is in use.
    """
    registry = CollectorRegistry()
    registry.register(HostMetrics(fleets))
    try:
        server, thread = start_http_server(address.port, address.host, registry)
    except OSError as error:
        raise UnavailableError(
            f"metrics: cannot listen on {address.host}:{address.port}: {os.strerror(error.errno or 0)}",
            hint="--metrics ADDRESS:PORT names another; port 0 takes a free one",
        ) from None
    host = f"[{address.host}]" if ":" in address.host else address.host
    try:
        yield f"http://{host}:{server.server_port}/metrics"
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
            kept = list(lines)
            write(kept)
            traces.record(kept)

        yield both
