"""Rehearsed enclaves for these tests, and the application they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.testing.plugin import enclave, evil_host, other_platform, rehearsal_platform

__all__ = ["enclave", "evil_host", "other_platform", "rehearsal_platform"]


@pytest.fixture(scope="session")
def subject() -> Path:
    """The application with one function for each thing that the boundary must hold."""
    return Path(__file__).parent / "subject" / "app.py"
