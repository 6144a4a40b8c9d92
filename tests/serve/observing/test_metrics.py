"""Metrics of several instances: what is read of each, what is summed, and what is refused."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kluis.enclave.attested_tls.meter import Meter
from kluis.errors import EnclaveError, FormatError, UnavailableError, UsageError
from kluis.serve.observing import metrics, observing
from kluis.services.web.telemetry import Line, Telemetry
from tests.serve.front.pki import NOW


class One:
    """An instance whose counts are a meter's, without an enclave."""

    def __init__(self, service: str = "a") -> None:
        self.meter = Meter(service)
        self.began = time.monotonic()
        self.broken = False
        self.enclave: Any = type("Enclave", (), {"pid": 2**22 + 1})()

    def metrics(self) -> bytes:
        if self.broken:
            raise EnclaveError("it does not answer")
        return self.meter.text()


class Some:
    """A fleet of such instances."""

    def __init__(self, *instances: One) -> None:
        self.service = "a"
        self.instances: tuple[One, ...] = instances
        self.restarts = 0
        self.listener: socket.socket | None = None


def collected(fleet: Some) -> dict[str, float]:
    """All samples of its registry, as Prometheus reads them."""
    registry = CollectorRegistry()
    host = metrics.HostMetrics(lambda: [fleet])  # type: ignore[list-item]
    registry.register(host)
    return samples(registry)


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """The text's samples: name and labels, and value."""
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def test_the_meter_counts() -> None:
    """Requests by status, and their times in a histogram that Prometheus' own parser reads."""
    meter = Meter('a"b\nc')
    for status, seconds in ((200, 0.0005), (200, 0.3), (503, 99.0), (70_000, 0.0)):
        meter.begin()
        meter.end(status, seconds)
    meter.begin()
    families = metrics.read(meter.text(), "a_b_c")
    found = {
        (one.name, one.labels.get("status"), one.labels.get("le")): one.value
        for family in families
        for one in family.samples
    }
    assert [found["kluis_requests_total", status, None] for status in ("0", "200", "503")] == [1, 2, 1]
    assert found["kluis_request_seconds_bucket", None, "0.001"] == 2
    assert found["kluis_request_seconds_bucket", None, "0.5"] == 3
    assert found["kluis_request_seconds_bucket", None, "+Inf"] == 4
    assert found["kluis_request_seconds_sum", None, None] == pytest.approx(99.3005)
    assert found["kluis_requests_running", None, None] == 1


def test_a_sum_keeps_what_ended_instances_counted() -> None:
    """The sum of a service grows over a restart, and each instance has its own samples."""
    first, second = One(), One()
    fleet = Some(first, second)
    registry = CollectorRegistry()
    registry.register(metrics.HostMetrics(lambda: [fleet]))  # type: ignore[list-item]
    for one in (first, second):
        one.meter.begin()
        one.meter.end(200, 0.1)
    total = 'kluis_service_requests_total{operation="http",service="a",status="200"}'
    assert samples(registry)[total] == 2
    fleet.instances, fleet.restarts = (second, One()), 1
    second.meter.begin()
    second.meter.end(200, 0.1)
    found = samples(registry)
    assert found[total] == 3
    assert found['kluis_service_request_seconds_count{operation="http",service="a"}'] == 3
    assert found['kluis_restarts_total{service="a"}'] == 1
    assert len([name for name in found if name.startswith("kluis_requests_total{")]) == 1
    assert samples(registry)[total] == 3


def test_a_sum_does_not_depend_on_addresses() -> None:
    """A new instance may be in the memory of one that ended between two readings: the sum never falls."""
    fleet = Some()
    registry = CollectorRegistry()
    registry.register(metrics.HostMetrics(lambda: [fleet]))  # type: ignore[list-item]
    total = 'kluis_service_requests_total{operation="http",service="a",status="200"}'
    for count in range(1, 21):
        fleet.instances = ()
        fleet.instances = (One(),)
        fleet.instances[0].meter.begin()
        fleet.instances[0].meter.end(200, 0.1)
        assert samples(registry)[total] == count


def test_a_name_outside_ascii() -> None:
    """The metrics of an enclave with any name pass the host's limits."""
    name = "caf\u00e9 \u0663"
    fleet = Some(One(name))
    fleet.service = name
    assert collected(fleet)[f'kluis_instances{{service="{name}"}}'] == 1


def test_one_that_does_not_answer() -> None:
    """It is counted as silent; the sum keeps what it reported last."""
    one, other = One(), One()
    fleet = Some(one, other)
    registry = CollectorRegistry()
    registry.register(metrics.HostMetrics(lambda: [fleet]))  # type: ignore[list-item]
    one.meter.begin()
    one.meter.end(500, 0.1)
    total = 'kluis_service_requests_total{operation="http",service="a",status="500"}'
    assert samples(registry)[total] == 1
    one.broken = True
    found = samples(registry)
    assert found[total] == 1
    assert found['kluis_instances{service="a"}'] == 1
    assert found['kluis_instances_silent{service="a"}'] == 1


def test_the_queue_is_the_kernels() -> None:
    """Connections that nobody accepted are counted; evidence has an age."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fleet = Some(One())
        fleet.listener = listener
        assert collected(fleet)['kluis_queue_connections{service="a"}'] == 0
        with (
            socket.create_connection(listener.getsockname()),
            socket.create_connection(listener.getsockname()),
        ):
            until = time.monotonic() + 60
            while (found := collected(fleet))['kluis_queue_connections{service="a"}'] != 2:
                assert time.monotonic() < until
    ages = [value for name, value in found.items() if name.startswith("kluis_evidence_age_seconds{")]
    assert len(ages) == 1
    assert ages[0] >= 0


def test_a_services_own_text_is_read() -> None:
    """What a service's telemetry writes passes the host's limits."""
    telemetry = Telemetry("keyvault")
    telemetry.record(Line(NOW, "keyvault", "GetKey", 200, 0.01, "id"))
    names = {family.name for family in metrics.read(telemetry.metrics(), "keyvault")}
    assert {"kluis_requests", "kluis_request_seconds", "kluis_requests_running"} <= names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff", "a metrics: want Prometheus' text format"),
        (b"kluis_x{", "a metrics: want Prometheus' text format"),
        (b"# " + b"x" * (1 << 20), "a metrics: want at most 1048576 bytes, got 1048578"),
        (b'other{service="a"} 1\n', "a metrics: want names that begin with kluis_, got 'other'"),
        (b'kluis_x{service="a",key="k"} 1\n', "a metrics: want no label 'key'"),
        (b'kluis_x{service="b"} 1\n', "a metrics: want its own, got those of another service"),
        (
            b'kluis_x{service="a",status="' + b"s" * 129 + b'"} 1\n',
            "a metrics: want labels of at most 128 characters",
        ),
        (b'kluis_x{service="a"} 1\n' * 10_001, "a metrics: want at most 10000 samples"),
    ],
)
def test_another_text_is_refused(text: bytes, message: str) -> None:
    """An instance adds no label, no name and no amount that the host does not expect."""
    with pytest.raises(FormatError) as caught:
        metrics.read(text, "a")
    assert caught.value.message == message


@pytest.mark.parametrize("text", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_that_is_none(text: str) -> None:
    """The refusal has an example."""
    with pytest.raises(UsageError) as caught, observing.metrics(text, lambda: []):
        pass
    assert caught.value.message == f"--metrics: want ADDRESS:PORT, got {text!a}"


def test_a_name_that_nobody_has() -> None:
    """The refusal has the reason of its lookup."""
    with pytest.raises(UnavailableError) as caught, observing.metrics("a.invalid:0", lambda: []):
        pass
    assert caught.value.message.startswith("metrics: cannot listen on a.invalid:0: ")
    assert "Unknown error" not in caught.value.message


def test_a_port_that_is_taken() -> None:
    """The refusal names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UnavailableError) as caught,
            observing.metrics(f"127.0.0.1:{port}", lambda: []),
        ):
            pass
    assert caught.value.message == f"metrics: cannot listen on 127.0.0.1:{port}: Address already in use"
