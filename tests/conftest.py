"""What holds for every test: a home of its own for platforms, and how hard hypothesis looks.

``HYPOTHESIS_PROFILE=nightly`` looks at a hundred times as many examples, in another order each time.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", max_examples=200, derandomize=True, deadline=None)
settings.register_profile(
    "nightly", max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_HOME = pytest.StashKey[Path]()
MOST_MEMORY = 512 << 20


def pytest_configure(config: pytest.Config) -> None:
    """Give platforms a home of this session's, so that no test meets the machine's own."""
    home = Path(tempfile.mkdtemp(prefix="kluis-tests-", dir="/run" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    config.stash[_HOME] = home
    os.environ["KLUIS_HOME"] = str(home)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the session's platform, if one was started, and remove its home."""
    from kluis.tee.platform import places, start

    home = config.stash[_HOME]
    os.environ["KLUIS_HOME"] = str(home)
    if home.exists() and any(home.iterdir()):
        start.stop(places.mine())
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """No more than half a gibibyte beside what this process has: to ask for more is a ``MemoryError``."""
    with open("/proc/self/statm", encoding="ascii") as file:
        have = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (have + MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
