"""The ``python`` layer: the running interpreter's standard library, its launcher and libraries."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError
from kluis.tee.image import closure, layers, sources
from kluis.tee.image.manifest import LAUNCHER, LOADER
from kluis.tee.image.sources import Source

# What tests, drives a screen or a terminal, installs packages, or belongs to the machine it came from.
_FOLDERS: Final = frozenset(
    {
        "test",
        "idlelib",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "lib2to3/tests",
        "distutils/tests",
        "unittest/test",
        "ctypes/test",
        "sqlite3/test",
        "pydoc_data",
        "__phello__",
    }
)
_FILES: Final = frozenset(
    {"sitecustomize.py", "usercustomize.py", "EXTERNALLY-MANAGED", "turtle.py", "antigravity.py", "this.py"}
)
_EXTENSIONS: Final = frozenset(
    {"_tkinter", "_curses", "_curses_panel", "readline", "_gdbm", "_dbm", "ossaudiodev", "nis"}
    | {"_ctypes_test", "_xxtestfuzz", "xxlimited", "xxlimited_35", "xxsubtype", "_xxsubinterpreters"}
)


def version() -> str:
    """The running interpreter's version, as the manifest states it."""
    if platform.python_implementation() != "CPython" or sys.platform != "linux":
        raise UnavailableError(f"interpreter: want CPython on Linux, got {platform.python_implementation()}")
    return platform.python_version()


def home() -> str:
    """The standard library's place in the layer: ``lib/pythonX.Y``."""
    return f"lib/python{sys.version_info.major}.{sys.version_info.minor}"


def standard_library() -> list[Source]:
    """The standard library without tests, and its extension modules.

    Raises:
        UnavailableError: the interpreter has no library on disk.
    """
    root = Path(sysconfig.get_path("stdlib")).resolve()
    if not (root / "os.py").is_file():
        raise UnavailableError(f"{root}: want the standard library, found no os.py")
    found = [sources.of_file(f"{home()}/{path}", origin) for path, origin in sources.walk(root, _keep)]
    dynload = Path(sysconfig.get_config_var("DESTSHARED") or root / "lib-dynload")
    if not (root / "lib-dynload").is_dir() and dynload.is_dir():
        found += [
            sources.of_file(f"{home()}/lib-dynload/{path}", origin)
            for path, origin in sources.walk(
                dynload, lambda path, folder: _keep(f"lib-dynload/{path}", folder)
            )
        ]
    return found


def _keep(path: str, folder: bool) -> bool:
    if folder:
        return path not in _FOLDERS and path.rpartition("/")[2] != "__pycache__" and path[:7] != "config-"
    name = path.rpartition("/")[2]
    if path.startswith("lib-dynload/"):
        stem = name.split(".", 1)[0]
        return name.endswith(".so") and stem not in _EXTENSIONS and not stem.startswith("_test")
    return name not in _FILES and not name.endswith((".pyc", ".pyo", ".exe", ".pickle", ".pth"))


def libraries(launcher: Path, objects: Mapping[str, Path]) -> tuple[list[Source], dict[str, list[str]]]:
    """The launcher, and every shared library that it or ``objects`` need.

    Args:
        launcher: the ELF program that starts an enclave.
        objects: ELF files of all layers, path inside to path outside.

    Returns:
        The files, and libraries that were not found: name, and who asked for it.

    Raises:
        UnavailableError: the launcher or the interpreter cannot be carried whole.
    """
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), launcher.parent]
    found = closure.find({**objects, f"python/{LAUNCHER}": launcher}, folders)
    needy = {name for name, users in found.missing.items() if f"python/{LAUNCHER}" in users}
    if needy:
        raise UnavailableError(
            f"launcher: want all its libraries, found no {', '.join(sorted(needy))}", hint="kluis doctor"
        )
    made = [sources.of_file(LAUNCHER, launcher, layers.PROGRAM_MODE)]
    for name, origin in found.libraries.items():
        inside = f"lib/{name}"
        mode = layers.PROGRAM_MODE if inside == LOADER else layers.FILE_MODE
        made.append(sources.of_file(inside, origin, mode))
    return made, found.missing
