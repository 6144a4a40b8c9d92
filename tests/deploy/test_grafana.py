"""The dashboard queries metrics and labels that there are."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kluis.serve.observing.metrics import LABELS, HostMetrics
from kluis.services.web.telemetry import Happening, Line, Telemetry
from tests.serve.front.pki import NOW
from tests.serve.observing.test_metrics import One, Some

DASHBOARD = Path(__file__).parents[2] / "examples/deploy/grafana/kluis.json"
NAME = re.compile(r"\bkluis_\w+")
MATCHERS = re.compile(r"\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\)")


class Told(One):
    """An instance with a service's own telemetry."""

    def __init__(self) -> None:
        super().__init__()
        self.telemetry = Telemetry("a")
        self.telemetry.record(Line(NOW, "a", "GetKey", 200, 0.1, "id"))
        self.telemetry.record_event(Happening("rotated"), NOW)
        self.enclave: Any = type("Enclave", (), {"pid": "self"})()

    def metrics(self) -> bytes:
        return self.telemetry.metrics()


def reported() -> dict[str, set[str]]:
    """Every sample's name that a host reports, with its labels."""
    found: dict[str, set[str]] = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fleet = Some(Told())
        fleet.listener = listener
        registry = CollectorRegistry()
        registry.register(HostMetrics(lambda: [fleet]))  # type: ignore[list-item]
        for family in registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries() -> list[str]:
    """Every query of the dashboard: of its panels, and of its variables."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*panels, *(one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query")]


def test_every_metric_exists() -> None:
    """No query names a metric that no host reports; and each metric is shown somewhere."""
    known = reported()
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert asked - set(known) == set()
    hidden = {name for name in known if not name.endswith(("_created", "_bucket", "_sum", "_count"))} - asked
    assert hidden == set()


def test_every_label_exists() -> None:
    """What a query selects and groups by are labels of its metrics."""
    known = reported()
    for query in queries():
        names = NAME.findall(query)
        labels = {
            part.strip().partition("=")[0].rstrip("!")
            for group in MATCHERS.findall(query)
            for part in group.split(",")
        } | {part.strip() for group in GROUPED.findall(query) for part in group.split(",")}
        assert labels <= LABELS
        for name in names:
            assert labels <= known[name] | {"service"}, query


def test_panels_do_not_overlap() -> None:
    """Each panel has its own id and place."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)


def test_prometheus_parses_each_query() -> None:
    """With Grafana's variables filled in, each is a query of PromQL; a broken one is not."""
    promql = pytest.importorskip("promql_parser", reason="promql-parser: extra dev")
    filled = [
        query.replace("$__rate_interval", "5m").replace("$service", ".*")
        for query in queries()
        if not query.startswith("label_values(")
    ]
    assert len(filled) > 10
    for query in filled:
        promql.parse(query)
    with pytest.raises(ValueError, match=r"\S"):
        promql.parse(filled[0].replace("(", "", 1))
