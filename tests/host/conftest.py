"""Rehearsed enclaves for these tests, and the application they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.tee.backend import Backend
from kluis.tee.platform.client import Platform
from kluis.testing.plugin import enclave, evil_host, other_platform
from tests import machines
from tests.launching import rehearsal_platform

__all__ = ["enclave", "evil_host", "other_platform", "rehearsal_platform"]


@pytest.fixture(scope="session")
def subject() -> Path:
    """The application with one function for each thing that the boundary must hold."""
    return Path(__file__).parents[1] / "enclave" / "subject" / "app.py"


@pytest.fixture(scope="module", params=["machine"] if machines.given() else ["here", "machine"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """This machine's platform, and that of a warm machine, over streams."""
    if request.param == "here":
        platform = Platform.connect()
        with platform.hold():  # else it ends if the module's image takes long to build
            yield platform
    else:
        with machines.warm() as machine:
            yield machine
