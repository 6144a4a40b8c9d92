"""Every reader of others' bytes, as the fuzzer finds them, meets inputs that mean harm: it ends at once."""

from __future__ import annotations

import pytest

from fuzz.targets import targets
from tests.formats.hostile import hostile
from tests.pace import within

TARGETS = targets()
LARGEST = 64 << 20
MOST_SECONDS = 1.0


def _all_end(size: int) -> None:
    for what, data in hostile(size):
        for name, target in TARGETS.items():
            with within(MOST_SECONDS, f"{name}: {what}"):
                try:
                    target.run(data)
                except BaseException as error:
                    raise AssertionError(f"{name}: {what}: {type(error).__name__}: {error}"[:300]) from error


@pytest.mark.usefixtures("little_memory")
def test_as_large_as_documents_are() -> None:
    """Inputs that readers take in are read or refused within a second, by errors of ours."""
    _all_end(200_000)


@pytest.mark.slow
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("size", [1_000_000, LARGEST])
def test_as_large_as_can_be(size: int) -> None:
    """So are inputs as large as a reader's bound, or as anything that is read, in little memory."""
    _all_end(size)
