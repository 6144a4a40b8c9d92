"""Fixtures and settings for every test: separate places for platforms and builds, and hypothesis profiles.

``HYPOTHESIS_PROFILE=full``, which ``make test-slow`` and ``make coverage`` set, looks at eight times as many
examples as ``quick``, and ``nightly`` at a hundred times as many as that, in another order each time.
"""

from __future__ import annotations

import functools
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import keys, machines
from tests.strategies import FULL

settings.register_profile("quick", max_examples=FULL // 8, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=FULL, derandomize=True, deadline=None)
settings.register_profile(
    "nightly", max_examples=100 * FULL, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

_WRITES_NO_BYTECODE = sys.dont_write_bytecode
sys.dont_write_bytecode = False
"""While tests are collected only, and before other conftests are imported: what is imported then is compiled
once for this process, for those that tests start, and for the next run. Tests rewrite modules within a second
and at the same size, which bytecode would hide."""

ROOT = Path(__file__).resolve().parents[1]
_HOME = pytest.StashKey[Path]()
_CACHE = pytest.StashKey[Path]()
MOST_MEMORY = 512 << 20
SHARED_MEMORY = Path("/dev/shm")
CACHE_BYTES = 2 << 30
SERVED = ("tests/serve/", "tests/cli/service/test_serve_text.py", "tests/cli/service/test_vault.py")
"""Tests that share running services, or their images."""
LONGEST = (
    "tests/clients/azure/",
    *SERVED,
    "tests/cli/demo/test_demo.py",
    "tests/meta/test_installed.py",
    "tests/host/test_examples.py",
    "tests/adversary/test_start.py",
    "tests/tee/image/",
)
"""What is begun first, so that no process is left with it when all others have nothing more to do."""


def pytest_configure(config: pytest.Config) -> None:
    """Give platforms a home and builds a cache of this session's: no test meets the machine's own."""
    home = Path(tempfile.mkdtemp(prefix="kluis-tests-", dir="/run" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    config.stash[_HOME] = home
    gc.disable()  # a quarter of the time that collecting takes is a search for garbage that there is not
    os.environ["KLUIS_HOME"] = str(home)
    os.environ["KLUIS_CONFIG"] = str(home / "config")  # no test trusts what the user of this machine trusts
    keys.folder()
    # The runtime's pinned inputs, a compiler among them, are checked by their hashes: they are fetched once.
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("KLUIS_RUNTIME_CACHE", str(kept / "kluis" / "runtime"))
    cache = Path(tempfile.mkdtemp(prefix="kluis-tests-cache-", dir=_in_memory()))
    config.stash[_CACHE] = cache
    os.environ["XDG_CACHE_HOME"] = str(cache)
    _share(cache / "kluis", getattr(config, "workerinput", {}).get("cache"))
    if machines.given():
        machines.adopt()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests stop what they started by it


def _share(cache: Path, first: str | None) -> None:
    """With ``-n``, compiled modules and wheels are one for all processes; collateral is each one's own.

    A pack of modules is named by all that goes into it, and its bytes are checked whenever it is used.
    ``dist``, ``services`` and ``images`` are no parts of Kluis's cache: the tests' own, wheels and images.
    """
    cache.mkdir(mode=0o700)
    for part in ("bytecode", "wheels", "runtimes", "dist", "services", "images"):
        if first is None:
            (cache / part).mkdir(mode=0o700)
        else:
            (cache / part).symlink_to(Path(first) / "kluis" / part)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of ``-n`` where the first one's cache is."""
    node.workerinput["cache"] = str(node.config.stash[_CACHE])


def _in_memory() -> Path | None:
    """Where files are made and removed without a disk; None where there is no such place with room.

    A build lays out some hundred small files, and removes them: on a disk that is most of its time.
    """
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    roomy = found.f_bavail * found.f_frsize > CACHE_BYTES and not found.f_flag & os.ST_NOEXEC
    return SHARED_MEMORY if roomy and os.access(SHARED_MEMORY, os.W_OK) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first; all else as it was."""
    items.sort(key=lambda item: _place(item.nodeid))
    if machines.given():
        machines.select(config, items)


def _place(nodeid: str) -> int:
    return next((at for at, path in enumerate(LONGEST) if nodeid.startswith(path)), len(LONGEST))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was collected stays to the end: no search for garbage goes through it while a test is timed."""
    sys.dont_write_bytecode = _WRITES_NO_BYTECODE
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``, a file's tests stay in one process, in their order; so do those that share services."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SERVED[0] if nodeid.startswith(SERVED) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the session's platform, if one was started, and remove its home and the cache."""
    from kluis.tee import places
    from kluis.tee.platform import start

    home = config.stash[_HOME]
    os.environ["KLUIS_HOME"] = str(home)
    if home.exists() and any(home.iterdir()):
        start.stop(places.mine())
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(config.stash[_CACHE], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def interfaces_read_once() -> Iterator[None]:
    """Interfaces are read in a separate process: once for each application that no test writes."""
    from kluis.testing import plugin, rehearsal

    ask = rehearsal.interface_of
    known = functools.cache(ask)

    def interface_of(app: Path) -> Any:
        return known(app) if app.is_relative_to(ROOT) else ask(app)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rehearsal, "interface_of", interface_of)
        patched.setattr(plugin, "interface_of", interface_of)
        yield


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Limit memory to half a gibibyte more than this process has: larger requests raise ``MemoryError``."""
    with open("/proc/self/statm", encoding="ascii") as file:
        have = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (have + MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
