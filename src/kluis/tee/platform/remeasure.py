"""Held layers, measured again at each launch: root can write where they are unpacked.

Modules are measured inside, as they are imported (:mod:`kluis.measured`). Here is all the rest: the launcher,
the loader and the libraries that start the interpreter, what it imports before that check is on, and data.
Standard library only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, NamedTuple

from kluis import measured
from kluis.tee.process import native

KLUIS: Final = "/k/kluis"
LAUNCHER: Final = "bin/kluis-launcher"
_MODULES: Final = (".py", ".pyc")


class File(NamedTuple):
    """A file of a layer: its path in it, its SHA-256 in hex, its size in bytes."""

    path: str
    sha256: str
    size: int


class Watched(NamedTuple):
    """What is measured of a layer at each launch.

    Attributes:
        names: every file there may be; None where a file more does nothing before the check of imports is on.
        files: those to measure.
    """

    directory: Path
    names: frozenset[str] | None
    files: tuple[File, ...]


def watched(directory: Path, mount: str, files: tuple[File, ...]) -> Watched:
    """Choose what to measure of a layer at each launch."""
    first = _first_libraries(directory) if mount == native.PYTHON else frozenset()
    names = frozenset(file.path for file in files) if mount in (native.PYTHON, KLUIS) else None
    return Watched(
        directory, names, tuple(file for file in files if not _measured_inside(mount, file, first))
    )


def changed(layers: list[Watched]) -> tuple[Path, str] | None:
    """Find a file of the layers that is missing, is changed, or was added.

    Returns:
        The layer's directory and the file's path in it; None where all is as measured.
    """
    for directory, names, files in layers:
        for folder, _, found in os.walk(directory) if names is not None else ():
            inside = folder[len(str(directory)) + 1 :]
            for name in found:
                path = f"{inside}/{name}" if inside else name
                if names is not None and path not in names:
                    return directory, path
        for file in files:
            if digest(directory / file.path) != file.sha256:
                return directory, file.path
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file, hex; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _measured_inside(mount: str, file: File, first: frozenset[str]) -> bool:
    folder, _, name = file.path.rpartition("/")
    folder = folder.removesuffix("/__pycache__")
    if mount == native.PYTHON and (file.path in first or folder.endswith("/encodings") or "_sha2" in name):
        return False
    if mount == KLUIS and (folder == "kluis" or (".so" in name and file.size >= measured.LARGE)):
        return False
    return name.endswith(_MODULES) or ".so" in name


def _first_libraries(python: Path) -> frozenset[str]:
    """What the kernel and the loader map before the first line of Python: paths in the layer."""
    found, wanted = set(), [LAUNCHER, *(f"lib/{name}" for name in measured.FIRST)]
    while wanted:
        path = wanted.pop()
        if path not in found and (python / path).is_file():
            found.add(path)
            data = (python / path).read_bytes()
            wanted += [f"lib/{name}" for name in measured.needed_libraries(lambda at, n: data[at : at + n])]  # noqa: B023
    return frozenset(found)
