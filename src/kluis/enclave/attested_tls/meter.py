"""Counts requests inside an enclave, for its host: how many, with which status, how long; never any content.

The text has the names and the format of the services' own metrics. Prometheus' client would add a package to
every image. The last requests are also listed, for traces. Spec: Prometheus, "Exposition formats"; W3C Trace
Context, "Traceparent Header".
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import Final

BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
OPERATION: Final = "http"
MOST_RECENT: Final = 4096
"""Requests that wait for the host to read them; earlier ones are dropped."""
# Of version 00 of the specification: ids and flags, and nothing that could carry text.
TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Meter:
    """Counts the requests of one server.

    An application's paths and methods are not counted separately: both are its clients' data.

    Args:
        service: name of the enclave.
    """

    def __init__(self, service: str) -> None:
        self._labels = f'service="{label_of(service)}",instance="{secrets.token_hex(4)}"'
        self._lock = threading.Lock()
        self._statuses: dict[int, int] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._running = 0
        # None until the host reads it for the first time: nothing is kept for a host that sends no traces.
        self._recent: deque[tuple[float, float, int, str, str | None]] | None = None

    def begin(self) -> None:
        """Count a request that is being answered."""
        with self._lock:
            self._running += 1

    def end(self, status: int, seconds: float, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Count its answer.

        Args:
            status: of HTTP; 0 if there was none. Others than 100 to 599 count as 0.
            seconds: from its head to the end of its answer.
            headers: of the request, by lower-case name; only a ``traceparent`` is used.
        """
        known = status if 100 <= status <= 599 else 0
        recent = self._recent
        if recent is not None:
            recent.append((time.monotonic(), seconds, known, secrets.token_hex(16), _trace_of(headers)))
        with self._lock:
            self._running -= 1
            self._statuses[known] = self._statuses.get(known, 0) + 1
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    def recent(self) -> bytes:
        """The requests answered since the last call, at most 4096; the first call has none.

        Returns:
            JSON: a list of ``[age, seconds, status, request_id, traceparent]``. The age is the time since the
            end of the answer, in seconds. A client that sent no ``traceparent`` has null.
        """
        with self._lock:
            spans, self._recent = self._recent or (), deque(maxlen=MOST_RECENT)
        now = time.monotonic()
        rows = [
            [round(now - ended, 6), round(seconds, 6), status, request_id, trace]
            for ended, seconds, status, request_id, trace in spans
        ]
        return json.dumps(rows, separators=(",", ":")).encode()

    def text(self) -> bytes:
        """All counts, in Prometheus' text format."""
        with self._lock:
            statuses, buckets = sorted(self._statuses.items()), list(self._buckets)
            seconds, running = self._seconds, self._running
        own = f'{self._labels},operation="{OPERATION}"'
        lines = ["# HELP kluis_requests_total Requests answered.", "# TYPE kluis_requests_total counter"]
        lines += [f'kluis_requests_total{{{own},status="{status}"}} {count}' for status, count in statuses]
        lines += [
            "# HELP kluis_request_seconds Seconds from a request's head to the end of its answer.",
            "# TYPE kluis_request_seconds histogram",
        ]
        total = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
            total += count
            lines.append(f'kluis_request_seconds_bucket{{{own},le="{bound}"}} {total}')
        lines += [
            f"kluis_request_seconds_count{{{own}}} {total}",
            f"kluis_request_seconds_sum{{{own}}} {seconds:.6f}",
            "# HELP kluis_requests_running Requests being answered.",
            "# TYPE kluis_requests_running gauge",
            f"kluis_requests_running{{{self._labels}}} {running}",
        ]
        return ("\n".join(lines) + "\n").encode()


def label_of(service: str) -> str:
    """A service's name as a label: an enclave's name may have any characters, a label here only ASCII."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "_" for sign in service)


def _trace_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The client's trace, if it sent one, once and in the form of the specification."""
    values = [value for name, value in headers if name == b"traceparent"]
    text = values[0].decode("latin-1") if len(values) == 1 else ""
    return text if TRACEPARENT.fullmatch(text) else None
