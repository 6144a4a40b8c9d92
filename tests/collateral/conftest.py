"""One service on loopback for a test, its vendors' documents forged under a test root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collateral.service import Service
from tests.evidence.forge import Forge


@pytest.fixture(scope="session")
def forge() -> Forge:
    """A forger at level ``process``; tests take from it and change nothing in it."""
    return Forge()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that has nothing yet."""
    made = Service(tmp_path)
    yield made
    made.close()
