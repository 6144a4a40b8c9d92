"""Azure's command line, unmodified, uses the services in their enclaves: one test a scenario.

The scenarios are in the modules beside this one, and run once a session; a failure shows what ``az`` said.
Nothing is installed for it: ``make clients`` does that.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.azure.serving import ROOT, lack, results, served
from tests.clients.azure.serving import environment as python_environment
from tests.clients.azure_cli.listing import FOLDER, declared, environment, runner

SCENARIOS = declared()
DOCUMENT = ROOT / "docs" / "concepts" / "azure-clients.md"


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, Any]]:
    """Every scenario's result, by name."""
    folder = environment()
    if folder is None:
        pytest.skip(
            "Azure's command line is not installed: scripts/setup.sh clients, where PyPI can be reached"
        )
    if lacks := lack():
        pytest.skip(lacks)
    # Where the clients for Python have had the services' images built, they are not built again.
    with served(python_environment() or folder) as (told, forger):
        return {result["name"]: result for result in results(runner(folder), told, forger)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    """What is typed ends as the scenario says."""
    if name not in outcomes:
        pytest.fail(f"{SCENARIOS[name]}: did not run: the runner ended before", pytrace=False)
    if error := outcomes[name]["error"]:
        pytest.fail(f"{SCENARIOS[name]}\n{error}", pytrace=False)


def test_every_package_is_pinned() -> None:
    """Each has one version; the documentation says which of the command line it is."""
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert f"`azure-cli` {pins['azure-cli']}" in DOCUMENT.read_text()
