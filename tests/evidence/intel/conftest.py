"""One forger of trust domains for all tests of Intel's verifiers: making keys is dear."""

from __future__ import annotations

import pytest

from tests.evidence.intel.forge import TdxForge


@pytest.fixture(scope="session")
def tdx_forge() -> TdxForge:
    """A forger at level ``process``; tests take from it and change nothing in it."""
    return TdxForge()
