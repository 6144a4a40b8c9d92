"""Azure's command line, unmodified, uses the services in their enclaves: one test a scenario.

The scenarios are in the modules beside this one, and run once a session; a failure shows what ``az`` said.
Nothing is installed for it: ``make clients`` does that.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.azure.serving import ROOT
from tests.clients.azure.suite import ended_well, outcomes_of
from tests.clients.azure_cli.listing import FOLDER, declared, environment, runner

SCENARIOS = declared()
DOCUMENT = ROOT / "docs" / "quality" / "azure-clients.md"


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, Any]]:
    """Every scenario's result, by name."""
    missing = "Azure's command line is not installed: scripts/setup.sh clients, where PyPI can be reached"
    return outcomes_of(environment(), missing, lambda folder, told: runner(folder))


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    """What is typed ends as the scenario says."""
    ended_well(name, SCENARIOS[name], outcomes)


def test_every_package_is_pinned() -> None:
    """Each has one version; the documentation says which of the command line it is."""
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert f"`azure-cli` {pins['azure-cli']}" in DOCUMENT.read_text()
