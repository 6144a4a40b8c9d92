"""Azure's own clients for JavaScript, unmodified, use the services in their enclaves: one test a scenario.

The scenarios are in the modules beside this one, and run once a session under Node; a failure shows the error
that the client had. Nothing is installed for it: `make clients` does that.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.azure.serving import ROOT
from tests.clients.azure.suite import ended_well, outcomes_of
from tests.clients.azure_js.listing import FOLDER, declared, environment, runner

SCENARIOS = declared()
DOCUMENT = ROOT / "docs" / "quality" / "azure-clients.md"


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, Any]]:
    """Every scenario's result, by name."""
    missing = (
        "Azure's clients for JavaScript are not installed: apt-get install nodejs npm, then "
        "scripts/setup.sh clients, where npm's registry can be reached"
    )
    return outcomes_of(environment(), missing, runner)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    """What the client does ends as the scenario says."""
    ended_well(name, SCENARIOS[name], outcomes)


def test_every_declaration_is_read() -> None:
    """What declares a scenario is listed, in whatever way it is broken into lines."""
    count = sum(path.read_text().count("\nscenario(") for path in FOLDER.glob("*.js"))
    assert count == len(SCENARIOS) > 50


def test_every_package_is_pinned() -> None:
    """Each package has one version and a digest of its bytes; the documentation says which."""
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
        assert f"`{name}` {version}" in DOCUMENT.read_text()
    for name, one in packages.items():
        assert name == "" or one["integrity"].startswith("sha512-"), name
