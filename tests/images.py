"""Real images for tests: each folder is built once in a run, for all its processes, and by one author."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.hashes import sha256
from kluis.tee.image import signing
from kluis.tee.image.build import builder

ALLOWED = frozenset() if os.geteuid() == 0 else frozenset({"secret-memory"})
"""Protections that may be missing: none for root; for other users, those that their limits prevent."""


def image_of(folder: Path, *, debug: bool = False) -> Path:
    """The image of a folder whose files no test changes; no test changes the image either."""
    place = Path(os.environ["XDG_CACHE_HOME"]) / "kluis/images"
    key, out = place / "author.pem", place / f"{sha256(f'{folder.resolve()} {debug}'.encode()).hex()}.kluis"
    with _locked(key):
        signing.ensure_key(key)
    with _locked(out):
        if not out.exists():
            builder.build(folder, out, key, debug)
    return out


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def built() -> Callable[[Path], Path]:
    """Builds a folder into an image, once: ``built(folder)``."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    return image_of
