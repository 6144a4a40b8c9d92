"""A provisioning service over a real sealed store, with a clock that the test sets and an owner's tokens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis.enclave.store.sealed import SealedStore
from kluis.testing.plugin import storage
from tests.services.provisioning.serving import Asking, Served

__all__ = ["storage"]

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def asking(storage: SealedStore) -> Asking:
    """A service at level process, called without a network."""
    return Asking(storage, NOW)


@pytest.fixture
def served(storage: SealedStore, tmp_path: Path) -> Iterator[Served]:
    """The same, on loopback over TLS and, for clients that can only do that, in plain."""
    with Served(storage, NOW, tmp_path) as running:
        yield running
