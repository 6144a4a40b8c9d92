"""Counts requests inside an enclave, for its host: how many, with which status, how long; never any content.

The text has the names and the format of the services' own metrics. Prometheus' client would add a package to
every image. Spec: Prometheus, "Exposition formats".
"""

from __future__ import annotations

import secrets
import threading
from bisect import bisect_left
from typing import Final

BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
OPERATION: Final = "http"


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

    def begin(self) -> None:
        """Count a request that is being answered."""
        with self._lock:
            self._running += 1

    def end(self, status: int, seconds: float) -> None:
        """Count its answer.

        Args:
            status: of HTTP; 0 if there was none. Others than 100 to 599 count as 0.
            seconds: from its head to the end of its answer.
        """
        with self._lock:
            self._running -= 1
            known = status if 100 <= status <= 599 else 0
            self._statuses[known] = self._statuses.get(known, 0) + 1
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

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
