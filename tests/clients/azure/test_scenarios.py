"""Azure's own clients, unmodified, use the services in their enclaves: one test for each scenario.

The scenarios are in the modules in this folder, and run once a session in the clients' own environment; a
failure shows the error that the client had.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.azure.listing import declared
from tests.clients.azure.serving import environment, runner
from tests.clients.azure.suite import ended_well, outcomes_of

SCENARIOS = declared()
# The wire specification numbers its scenarios with gaps, which additional ones fill.
SPECIFIED = [
    1, 2, 3, 4, 6, 8, 10, 12, 15, 16, 17, 18, 20, 22, 23, 25, 26, 27, 29, 31, 32, 34, 35, 37, 38, 39, 41, 42,
    44, 45, 46, 48, 49, 51,
]  # fmt: skip


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, Any]]:
    """Every scenario's result, by name."""
    missing = "Azure's clients are not installed: scripts/setup.sh clients, where PyPI can be reached"
    return outcomes_of(environment(), missing, lambda folder, told: runner(folder))


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=f"{number or 'own'}-{name}") for name, (number, _) in SCENARIOS.items()]
)
def test_scenario(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    """The client's actions end as the scenario states."""
    ended_well(name, SCENARIOS[name][1], outcomes)


def test_every_scenario_of_the_specification() -> None:
    """Each scenario of the wire specification has one, and no number has two."""
    numbers = sorted(number for number, _ in SCENARIOS.values() if number is not None)
    assert numbers == SPECIFIED
