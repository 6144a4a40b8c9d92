"""A platform of the tests' own, and an enclave to attack on it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee import places
from kluis.tee.platform import start
from kluis.tee.platform.client import Platform
from tests.images import image_of

HERE = Path(__file__).parent
ROOT = os.geteuid() == 0


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A directory for a separate platform, which is stopped with it."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    directory = Path(tempfile.mkdtemp(prefix="kluis-adversary-", dir="/run" if ROOT else None))
    directory.chmod(0o755)
    before = os.environ.get("KLUIS_HOME")
    os.environ["KLUIS_HOME"] = str(directory)
    try:
        yield directory
    finally:
        start.stop(places.mine())
        if before is None:
            del os.environ["KLUIS_HOME"]
        else:
            os.environ["KLUIS_HOME"] = before
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def platform(home: Path) -> Platform:
    """The tests' platform, running."""
    return Platform(start.start())


@pytest.fixture(scope="session")
def victim_image() -> Path:
    """The image of the enclave that is attacked."""
    return image_of(HERE / "victim")


@pytest.fixture(scope="session")
def allowed(platform: Platform) -> frozenset[str]:
    """What may be missing: nothing as root; what an ordinary user's limits withhold otherwise."""
    return frozenset() if ROOT else frozenset({"secret-memory"})


@pytest.fixture
def victim(victim_image: Path, allowed: frozenset[str]) -> Iterator[EnclaveProxy]:
    """An enclave of the victim's image."""
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        yield enclave
