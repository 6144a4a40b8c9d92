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
"""A plain ``.so`` may be a module or a library that another one opens."""
_PART: Final = 256 * 1024


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


def select_files(directory: Path, mount: str, files: tuple[File, ...]) -> Watched:
    """Choose the files of a layer to measure at each launch."""
    names = frozenset(file.path for file in files)
    return Watched(directory, names, tuple(file for file in files if not _measured_inside(mount, file)))


def find_change(layers: list[Watched]) -> tuple[Path, str] | None:
    """Find a file of the layers that is missing, changed or added.

    Returns:
        The layer's directory and the file's path in it; None if nothing has changed.
    """
    buffer = bytearray(_PART)
    for directory, names, files in layers:
        if (more := _find_added(str(directory), "", names)) is not None:
            return directory, more
        for file in files:
            if _digest(f"{directory}/{file.path}", buffer) != file.sha256:
                return directory, file.path
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file, hex; empty where it cannot be read."""
    return _digest(str(path), bytearray(_PART))


def _find_added(folder: str, inside: str, names: frozenset[str]) -> str | None:
    """A path below ``folder`` that no file of the layer has; a link is one, whatever it leads to."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # what was in it is missing, and found to be
        return None
    below = []
    for entry in entries:
        path = f"{inside}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            below.append((entry.path, f"{path}/"))
        elif path not in names:
            return path
    return next((more for each, path in below if (more := _find_added(each, path, names)) is not None), None)


def _digest(path: str, buffer: bytearray) -> str:
    """As :func:`digest`; through one buffer, since most files are small and there are hundreds."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    view, hashing = memoryview(buffer), hashlib.sha256()
    try:
        while size := os.readv(descriptor, [buffer]):
            hashing.update(view[:size])
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return hashing.hexdigest()


def _measured_inside(mount: str, file: File) -> bool:
    folder, _, name = file.path.rpartition("/")
    folder = folder.removesuffix("/__pycache__")
    if mount == native.PYTHON and (folder.endswith("/encodings") or "_sha2" in name):
        return False
    if mount == measured.KLUIS and (folder == "kluis" or file.size >= measured.LARGE):
        return False
    return name.endswith(_MODULES)
