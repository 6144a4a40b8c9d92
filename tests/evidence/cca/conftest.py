"""One platform and one realm for all tests of their verifier."""

from __future__ import annotations

import pytest

from tests.evidence.cca.forge import Forge


@pytest.fixture(scope="session")
def cca() -> Forge:
    """A forger; tests take from it and change nothing in it."""
    return Forge()
