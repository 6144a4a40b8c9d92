"""The services, running in enclaves of this machine, for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.serve.plan import Plan
from kluis.serve.start import Serving
from tests.serve.served import bring_images, serving_here

SERVICES = ("attestation", "keyvault", "provisioning")
"""Those that tests of all services run: a ledger has tests of its own."""


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state folder: its images are built once, and for the tests with Azure's clients as well."""
    folder = tmp_path_factory.mktemp("services")
    bring_images(folder)
    return folder


@pytest.fixture(scope="session")
def running(state: Path) -> Iterator[Serving]:
    """All three services, two enclaves of each."""
    plan = Plan(services=SERVICES, state=state, port=0, instances=2)
    with serving_here(plan) as made:
        yield made
