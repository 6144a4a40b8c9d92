"""One forger for all tests of verifiers: making keys is dear."""

from __future__ import annotations

import pytest

from tests.evidence.forge import Forge


@pytest.fixture(scope="session")
def forge() -> Forge:
    """A forger at level ``process``; tests take from it and change nothing in it."""
    return Forge()
