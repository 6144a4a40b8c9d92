"""Metrics for Prometheus: those of every instance, their sums, and what only the host sees.

An instance counts inside its enclave and forgets when it ends. The host adds up what it read last from each.
Spec: Prometheus, "Exposition formats"; Linux, tcp_info of a listening socket (tcp_diag(7)).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from kluis.enclave.attested_tls.meter import label_of
from kluis.errors import FormatError, KluisError
from kluis.serve.fleet import Fleet
from kluis.serve.instance import Instance

MOST_BYTES: Final = 1 << 20
MOST_SAMPLES: Final = 10_000
MOST_LABEL: Final = 128
LABELS: Final = frozenset({"service", "instance", "operation", "status", "event", "le"})
# Those that the host also sums, under the name of the sum.
SUMS: Final = {
    "kluis_requests": "kluis_service_requests",
    "kluis_request_seconds": "kluis_service_request_seconds",
}
_QUEUE_AT: Final = 24  # tcpi_unacked: of a listening socket, the connections that wait to be accepted
_TCP_INFO_BYTES: Final = 104

_Key = tuple[str, str, tuple[tuple[str, str], ...]]


def read(text: bytes, service: str) -> list[Metric]:
    """Parse what an instance reports: known labels only, and of this service only.

    Raises:
        FormatError: more than the limits, not in the format, or of another service.
    """
    if len(text) > MOST_BYTES:
        raise FormatError(f"{service} metrics: want at most {MOST_BYTES} bytes, got {len(text)}")
    try:
        families = list(text_string_to_metric_families(text.decode("ascii")))
    except (ValueError, LookupError):  # the parser's; its text may contain any of the input
        raise FormatError(f"{service} metrics: want Prometheus' text format") from None
    count = 0
    for family in families:
        for sample in family.samples:
            count += 1
            if count > MOST_SAMPLES:
                raise FormatError(f"{service} metrics: want at most {MOST_SAMPLES} samples")
            _check(sample, service)
    return families


def _check(sample: Sample, service: str) -> None:
    if not sample.name.startswith("kluis_"):
        raise FormatError(f"{service} metrics: want names that begin with kluis_, got {sample.name[:64]!a}")
    if more := sorted(set(sample.labels) - LABELS):
        raise FormatError(f"{service} metrics: want no label {more[0][:64]!a}")
    if sample.labels.get("service") != service:
        raise FormatError(f"{service} metrics: want its own, got those of another service")
    if any(len(value) > MOST_LABEL for value in sample.labels.values()):
        raise FormatError(f"{service} metrics: want labels of at most {MOST_LABEL} characters")


class HostMetrics(Collector):
    """All metrics of some fleets, collected when they are requested.

    Args:
        fleets: returns the fleets that run now.
    """

    def __init__(self, fleets: Callable[[], Sequence[Fleet]]) -> None:
        self._fleets = fleets
        self._lock = threading.Lock()
        # By the instance itself: an ended one's id() may be a new one's.
        self._latest: dict[Instance, dict[_Key, float]] = {}
        self._ended: dict[_Key, float] = {}

    def collect(self) -> Iterator[Metric]:
        """Read every instance; one that does not answer is counted, and is in no other metric."""
        with self._lock:
            yield from self._collect()

    def _collect(self) -> Iterator[Metric]:
        own: dict[str, Metric] = {}
        latest: dict[Instance, dict[_Key, float]] = {}
        up = GaugeMetricFamily("kluis_instances", "Instances that answer.", labels=["service"])
        silent = GaugeMetricFamily(
            "kluis_instances_silent", "Instances that did not report.", labels=["service"]
        )
        restarts = CounterMetricFamily(
            "kluis_restarts", "Instances that ended by themselves and were replaced.", labels=["service"]
        )
        queue = GaugeMetricFamily(
            "kluis_queue_connections", "Connections that wait to be accepted.", labels=["service"]
        )
        names = ["service", "instance"]
        memory = GaugeMetricFamily(
            "kluis_resident_bytes", "Memory of the enclave that was touched: code and heap.", labels=names
        )
        age = GaugeMetricFamily(
            "kluis_evidence_age_seconds",
            "Seconds since the instance started, and made its evidence.",
            labels=names,
        )
        for fleet in self._fleets():
            answered = 0
            instances = fleet.instances
            for number, one in enumerate(instances):
                try:
                    families = read(one.metrics(), label_of(fleet.service))
                except KluisError:
                    if one in self._latest:
                        latest[one] = self._latest[one]
                    continue
                answered += 1
                name = _instance_of(families) or str(number)
                latest[one] = _sums_of(families)
                for family in families:
                    _add(own, family)
                if (size := _resident(one)) is not None:
                    memory.add_metric([fleet.service, name], size)
                age.add_metric([fleet.service, name], time.monotonic() - one.began)
            up.add_metric([fleet.service], answered)
            silent.add_metric([fleet.service], len(instances) - answered)
            restarts.add_metric([fleet.service], fleet.restarts)
            if fleet.listener is not None:
                queue.add_metric([fleet.service], _waiting(fleet.listener))
        for gone in set(self._latest) - set(latest):
            for key, value in self._latest[gone].items():
                self._ended[key] = self._ended.get(key, 0.0) + value
        self._latest = latest
        yield from own.values()
        yield from self._sums()
        yield from (up, silent, restarts, queue, memory, age)

    def _sums(self) -> Iterator[Metric]:
        totals = dict(self._ended)
        for values in self._latest.values():
            for key, value in values.items():
                totals[key] = totals.get(key, 0.0) + value
        kinds = {"kluis_service_requests": "counter", "kluis_service_request_seconds": "histogram"}
        for name, kind in kinds.items():
            family = Metric(name, f"{name.removeprefix('kluis_service_')}, of all instances.", kind)
            for (of, sample, labels), value in sorted(totals.items()):
                if of == name:
                    family.add_sample(sample, dict(labels), value)
            yield family


def _add(metrics: dict[str, Metric], family: Metric) -> None:
    known = metrics.setdefault(family.name, Metric(family.name, family.documentation, family.type))
    known.samples.extend(family.samples)


def _instance_of(families: Iterable[Metric]) -> str | None:
    for family in families:
        for sample in family.samples:
            if "instance" in sample.labels:
                return sample.labels["instance"]
    return None


def _sums_of(families: Iterable[Metric]) -> dict[_Key, float]:
    """The samples to add up, without their instance."""
    sums: dict[_Key, float] = {}
    for family in families:
        name = SUMS.get(family.name)
        if name is None:
            continue
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "instance"))
            of = name + sample.name.removeprefix(family.name)
            key = (name, of, labels)
            sums[key] = sums.get(key, 0.0) + sample.value
    return sums


def _resident(instance: Instance) -> int | None:
    """The enclave's memory, bytes; None if its process is not visible here, as from another container."""
    try:
        status = Path(f"/proc/{instance.enclave.pid}/status").read_text("ascii", "replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def _waiting(listener: socket.socket) -> int:
    """How many connections wait in a listening socket's queue."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int.from_bytes(info[_QUEUE_AT : _QUEUE_AT + 4], "little")
