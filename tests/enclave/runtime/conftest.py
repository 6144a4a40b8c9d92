"""Every rehearsed enclave of these tests speaks once over sockets with descriptors, and once over streams."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kluis.testing.rehearsal import RehearsalPlatform


@pytest.fixture(scope="session", params=["sockets", "streams"])
def rehearsal_platform(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RehearsalPlatform:
    """One platform of each form for the whole session."""
    now = datetime.now(UTC)
    return RehearsalPlatform(tmp_path_factory.mktemp("platform"), now, streams=request.param == "streams")
