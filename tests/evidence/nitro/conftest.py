"""One Nitro PKI for all tests of its verifier."""

from __future__ import annotations

import pytest

from tests.evidence.nitro.forge import Forge


@pytest.fixture(scope="session")
def nitro() -> Forge:
    """A forger; tests take from it and change nothing in it."""
    return Forge()
