"""An operator with all metrics, traces and logs of running services looks for what clients sent."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from kluis.errors import FormatError
from kluis.serve.observing.metrics import read
from tests.serve.observing.collector import Collector, attributes
from tests.serve.served import Admin, Served, bring_images

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Observed(NamedTuple):
    """Running services, and what their operator sees of them."""

    command: Served
    admin: Admin
    collector: Collector
    metrics: str


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """An attestation service and a vault of two enclaves, with metrics and traces."""
    state = tmp_path_factory.mktemp("observed")
    bring_images(state)
    with Collector() as collector:
        options = ["--metrics", "127.0.0.1:0", "--otlp", collector.url, "--instances", "2"]
        with Served(["attestation", "keyvault"], state, *options) as command, Admin(command.told) as admin:
            (line,) = [line for line in command.log if "metrics at" in line]
            yield Observed(command, admin, collector, line.split()[-1])


def values(text: str, name: str, **labels: str) -> list[float]:
    """A metric's samples that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(f"{name}{{") and all(each in line for each in wanted)
    ]


def test_each_instance_and_their_sum(observed: Observed) -> None:
    """Metrics describe both enclaves of each service; a request is counted once in the sum."""
    before = sum(values(httpx.get(observed.metrics).text, "kluis_service_requests_total", operation="Live"))
    for _ in range(3):
        observed.admin.http.get(f"{observed.admin.addresses['keyvault']}/health/live")
    text = httpx.get(observed.metrics, timeout=120).text
    assert sum(values(text, "kluis_service_requests_total", operation="Live")) == before + 3
    for service in ("attestation", "keyvault"):
        assert values(text, "kluis_instances", service=service) == [2.0]
        assert len(values(text, "kluis_evidence_age_seconds", service=service)) == 2
        assert values(text, "kluis_restarts_total", service=service) == [0.0]
        assert values(text, "kluis_queue_connections", service=service) == [0.0]
        assert all(size > 1 << 20 for size in values(text, "kluis_resident_bytes", service=service))
    instances = set(re.findall(r'instance="(\w+)"', text))
    assert len(instances) == 4


def test_a_request_belongs_to_its_clients_trace(observed: Observed) -> None:
    """A client's trace passes through TLS into the enclave, and the host's span is its child."""
    url = f"{observed.admin.addresses['attestation']}/health/ready"
    assert observed.admin.http.get(url, headers={"traceparent": TRACE}).status_code == 200
    span = observed.collector.wait(lambda span: span.parent_span_id.hex() == TRACE.split("-")[2])
    assert span.trace_id.hex() == TRACE.split("-")[1]
    assert attributes(span)["kluis.operation"] == "Ready"


@pytest.mark.parametrize(
    "sent", ["secret", "00-" + "g" * 32 + "-" + "0" * 16 + "-01", TRACE + "-secret", TRACE.upper()]
)
def test_a_trace_carries_no_text(observed: Observed, sent: str) -> None:
    """Only ids and flags in the specification's form leave the enclave."""
    url = f"{observed.admin.addresses['attestation']}/openapi.json"
    answer = observed.admin.http.get(url, headers={"traceparent": sent})
    request_id = answer.headers["x-ms-request-id"]
    span = observed.collector.wait(lambda span: attributes(span)["kluis.request_id"] == request_id)
    assert span.parent_span_id == b""
    assert not any(sent in line for line in observed.command.log)


def test_no_content_in_metrics_traces_and_logs(observed: Observed) -> None:
    """Names of keys, bodies, queries, headers, tokens and keys occur in nothing that the operator reads."""
    canaries = {
        kind: f"canary{kind}{secrets.token_hex(8)}" for kind in ("name", "body", "query", "agent", "path")
    }
    admin, vault = observed.admin, observed.admin.addresses["keyvault"]
    token = admin.headers("keyvault")["Authorization"]
    made = admin.http.post(
        f"{vault}/keys/{canaries['name']}/create?api-version=7.4&x={canaries['query']}",
        json={"kty": "EC", "crv": "P-256", "tags": {"tag": canaries["body"]}},
        headers={"Authorization": token, "User-Agent": canaries["agent"], "traceparent": TRACE},
    )
    assert made.status_code == 200
    public: Any = made.json()["key"]
    refused = admin.http.post(
        f"{admin.addresses['attestation']}/attest/SgxEnclave?api-version=2020-10-01",
        json={"quote": canaries["body"]},
        headers={"traceparent": TRACE},
    )
    assert refused.status_code == 400
    assert admin.http.get(f"{vault}/{canaries['path']}").status_code == 404
    last = refused.headers["x-ms-request-id"]
    observed.collector.wait(lambda span: attributes(span)["kluis.request_id"] == last)
    seen = {
        "metrics": httpx.get(observed.metrics, timeout=120).content,
        "traces": b"\n".join(observed.collector.raw),
        "log": "".join(observed.command.log).encode(),
    }
    assert all(seen.values())
    secret = [*canaries.values(), token.removeprefix("Bearer "), public["x"], public["kid"]]
    secret.append(json.loads(Path(observed.command.told["clients"]).read_text())[0]["secret"])
    for where, text in seen.items():
        assert [word for word in secret if word.encode() in text] == [], where


@pytest.mark.parametrize("text", [b'kluis_a{service="a",\t="200"} 3\n'])
def test_a_report_that_breaks_the_parser(text: bytes) -> None:
    """A report of one enclave, whatever it contains, does not end the metrics of all others."""
    with pytest.raises(FormatError):
        read(text, "a")
