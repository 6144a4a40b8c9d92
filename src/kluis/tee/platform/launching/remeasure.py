"""Measure cached layers again at each launch, because root can write to the unpacked files.

Modules are measured inside, as they are imported (:mod:`kluis.measured`). This module measures the rest: the
launcher, the loader, every library that is not a module, modules imported before that check is active, and
data. A library may be opened by another one, which no import shows. An added file is detected too: the loader
looks for a library in ``glibc-hwcaps`` first. Nothing of an image is parsed here. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final, NamedTuple

from kluis import measured
from kluis.tee.process import native

_MODULES: Final = (".py", ".pyc", *(suffix for suffix in EXTENSION_SUFFIXES if suffix != ".so"))
"""A plain ``.so`` may be a module, or a library that another one opens."""


class File(NamedTuple):
    """A file of a layer: its path in it, its SHA-256 in hex, its size in bytes."""

    path: str
    sha256: str
    size: int


class Watched(NamedTuple):
    """The files of a layer to measure at each launch.

    Attributes:
        names: every allowed file.
        files: those to measure.
    """

    directory: Path
    names: frozenset[str]
    files: tuple[File, ...]


def watched(directory: Path, mount: str, files: tuple[File, ...]) -> Watched:
    """Choose the files of a layer to measure at each launch."""
    names = frozenset(file.path for file in files)
    return Watched(directory, names, tuple(file for file in files if not _measured_inside(mount, file)))


def changed(layers: list[Watched]) -> tuple[Path, str] | None:
    """Find a file of the layers that is missing, changed or added.

    Returns:
        The layer's directory and the file's path in it; None if nothing has changed.
    """
    for directory, names, files in layers:
        for folder, below, found in os.walk(directory):
            inside = folder[len(str(directory)) + 1 :]
            links = [name for name in below if os.path.islink(os.path.join(folder, name))]
            for name in (*found, *links):
                path = f"{inside}/{name}" if inside else name
                if path not in names:
                    return directory, path
        for file in files:
            if digest(directory / file.path) != file.sha256:
                return directory, file.path
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file, hex; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _measured_inside(mount: str, file: File) -> bool:
    folder, _, name = file.path.rpartition("/")
    folder = folder.removesuffix("/__pycache__")
    if mount == native.PYTHON and (folder.endswith("/encodings") or "_sha2" in name):
        return False
    if mount == measured.KLUIS and (folder == "kluis" or file.size >= measured.LARGE):
        return False
    return name.endswith(_MODULES)
