"""Fixtures for real images: built once a session, started in this machine's process TEE."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.tee.image.build import builder

ALLOWED = frozenset() if os.geteuid() == 0 else frozenset({"secret-memory"})
"""Protections that may be missing: none for root; for other users, those that their limits prevent."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Builds a folder into an image, once: ``built(folder)``; one author signs all images."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    place = tmp_path_factory.mktemp("images")
    made: dict[Path, Path] = {}

    def build(folder: Path, *, debug: bool = False) -> Path:
        if folder not in made:
            out = place / f"{len(made)}.kluis"
            builder.build(folder, out, place / "author.pem", debug)
            made[folder] = out
        return made[folder]

    return build
