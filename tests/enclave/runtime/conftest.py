"""Every rehearsed enclave of these tests speaks once over sockets with descriptors, and once over streams."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kluis.testing.rehearsal import RehearsalPlatform
from tests import launching, machines

FORMS = ("streams",) if machines.given() else ("sockets", "streams")


@pytest.fixture(scope="session", params=FORMS)
def rehearsal_platform(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RehearsalPlatform | launching.InMachine:
    """One platform of each form for the whole session."""
    folder = tmp_path_factory.mktemp("platform")
    if machines.given():
        return launching.in_machine(folder)
    return RehearsalPlatform(folder, datetime.now(UTC), streams=request.param == "streams")
