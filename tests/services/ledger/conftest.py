"""A ledger for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.ledger.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A ledger with a folder of its own."""
    return World(tmp_path / "ledger")
