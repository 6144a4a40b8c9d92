"""A service of each test's own, over the real store."""

from __future__ import annotations

import pytest

from kluis.enclave.store import SealedStore
from kluis.testing.plugin import storage
from tests.services.attestation.world import World

__all__ = ["storage"]


@pytest.fixture
def world(storage: SealedStore) -> World:
    """A service, and those who ask it."""
    return World(storage)
