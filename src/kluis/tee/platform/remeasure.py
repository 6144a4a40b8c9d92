"""Held layers, measured again at each launch: root can write where they are unpacked.

Modules are measured inside, as they are imported (:mod:`kluis.measured`). Here is all the rest: the launcher,
the loader and the libraries that start the interpreter, what it imports before that check is on, and data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from kluis.tee.process import native

KLUIS: Final = "/k/kluis"
_MODULES: Final = (".py", ".pyc")


class File(NamedTuple):
    """A file of a layer: its path in it, its SHA-256 in hex."""

    path: str
    sha256: str


def changed(layers: Iterable[tuple[Path, str, tuple[File, ...]]]) -> tuple[Path, str] | None:
    """Find a file of the layers that is missing, is changed, or was added.

    Args:
        layers: directory, mount point and files of each.

    Returns:
        The layer's directory and the file's path in it; None where all is as measured.
    """
    for directory, mount, files in layers:
        names = {file.path for file in files}
        for folder, _, found in os.walk(directory):
            inside = folder[len(str(directory)) + 1 :]
            for name in found:
                if (path := f"{inside}/{name}" if inside else name) not in names:
                    return directory, path
        for file in files:
            if not _measured_inside(mount, file.path) and digest(directory / file.path) != file.sha256:
                return directory, file.path
    return None


def _measured_inside(mount: str, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if mount in (native.PYTHON, KLUIS) and ".so" in name:
        return False
    before_the_check = folder.removesuffix("/__pycache__")
    if mount == KLUIS and before_the_check == "kluis":
        return False
    if mount == native.PYTHON and before_the_check.endswith("/encodings"):
        return False
    return name.endswith(_MODULES) or ".so" in name


def digest(path: Path) -> str:
    """SHA-256 of a file, hex; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
