"""A local cloud of this session's: one service, in a real enclave, in the background."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import clouds
from tests.clouds import Cloud


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A local cloud that may run or not."""
    made = Cloud(clouds.prepare(tmp_path_factory.mktemp("cloud")))
    yield made
    made.close()
