"""One forger for all tests of NVIDIA's evidence: making keys is dear."""

from __future__ import annotations

import pytest

from tests.evidence.nvidia.forge import Forge


@pytest.fixture(scope="session")
def gpu() -> Forge:
    """A forger; tests take from it and change nothing in it."""
    return Forge()
