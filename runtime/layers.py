"""Collect the two layers of the runtime: the base of every image, and the libraries that Kluis needs
inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from inputs import InputError

from kluis.tee.image import layers, pyc, sources
from kluis.tee.image.build import bytecode, elf, interpreter
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.image.build.packages import wheels
from kluis.tee.image.manifest import LAUNCHER, LOADER, MOUNTS
from kluis.tee.image.sources import Source

# Left out: tests, modules for a screen or a terminal, package installers, and files specific to a machine.
_FOLDERS = frozenset(
    {"test", "idlelib", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages", "__pycache__"}
    | {"lib2to3/tests", "distutils/tests", "unittest/test", "ctypes/test", "sqlite3/test", "pydoc_data"}
    | {"__phello__"}
)
_FILES = frozenset(
    {"sitecustomize.py", "usercustomize.py", "EXTERNALLY-MANAGED", "turtle.py", "antigravity.py", "this.py"}
)
_EXTENSIONS = frozenset(
    {"_tkinter", "_curses", "_curses_panel", "readline", "_gdbm", "_dbm", "ossaudiodev", "nis"}
    | {"_ctypes_test", "_xxtestfuzz", "xxlimited", "xxlimited_35", "xxsubtype", "_xxsubinterpreters"}
)
# Libraries that wheels expect on any machine, or that the loader reads by name at run time.
LIBRARIES = (
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libcrypto.so.3",
    "libdl.so.2",
    "libexpat.so.1",
    "libgcc_s.so.1",
    "libgomp.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
    "libz.so.1",
)
_PLACES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


def base(root: Path, python: str, launcher: Path, program: Path, work: Path) -> list[Source]:
    """Every file of the base layer: standard library, its bytecode, libraries, launcher.

    Args:
        root: the unpacked Debian packages.
        python: the interpreter, ``3.11``.
        launcher: the compiled program.
        program: a plain interpreter on the same libpython, which compiles the bytecode.
        work: a folder for this build.

    Raises:
        InputError: no package has a library.
    """
    library = root / f"usr/lib/python{python}"
    found = [sources.of_file(f"lib/python{python}/{p}", o) for p, o in sources.walk(library, _keep)]
    objects = [file.origin for file in found if isinstance(file.origin, Path) and ".so" in file.path]
    found.append(sources.of_file(LAUNCHER, launcher, layers.PROGRAM_MODE))
    for name, origin in sorted(_closure([launcher, *objects], root).items()):
        mode = layers.PROGRAM_MODE if f"lib/{name}" == LOADER else layers.FILE_MODE
        found.append(sources.of_file(f"lib/{name}", origin, mode))
    tree = work / "tree"
    interpreter.write(tree, [*found, sources.of_file("bin/python", program, layers.PROGRAM_MODE)])
    return [*found, *_bytecode(found, "cpython-" + python.replace(".", ""), tree, work)]


def inside(paths: Mapping[str, Path], work: Path) -> list[Source]:
    """Every file of the wheels that Kluis needs inside."""
    found = []
    for name, path in sorted(paths.items()):
        found += wheels.unpack(path, work / name).files
    return found


def pack(files: Iterable[Source], out: Path) -> bytes:
    """Write a layer in the image format: u64 length, index, u64 length, data. Returns its digest, 32
    bytes.
    """
    ordered = sorted(files, key=lambda file: file.path)
    index, size = layers.encode_index((file.path, file.mode, file.size, file.sha256) for file in ordered)
    with out.open("wb") as f:
        f.write(len(index).to_bytes(8, "little") + index + size.to_bytes(8, "little"))
        end = 0
        for file in ordered:
            start = layers.align(end)
            f.write(bytes(start - end))
            file.copy(f.write)
            end = start + file.size
    return layers.digest(index)


def _keep(path: str, folder: bool) -> bool:
    if folder:
        return path not in _FOLDERS and path.rpartition("/")[2] != "__pycache__" and path[:7] != "config-"
    name = path.rpartition("/")[2]
    if path.startswith("lib-dynload/"):
        stem = name.split(".", 1)[0]
        return name.endswith(".so") and stem not in _EXTENSIONS and not stem.startswith("_test")
    return name not in _FILES and not name.endswith((".pyc", ".pyo", ".exe", ".pickle", ".pth"))


def _closure(objects: Iterable[Path], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    wanted = [(name, "what wheels count on") for name in LIBRARIES]
    for path in objects:
        wanted += [(name, path.name) for name in _needed(path)]
    while wanted:
        name, user = wanted.pop()
        if name in found:
            continue
        path = next((root / place / name for place in _PLACES if (root / place / name).exists()), None)
        if path is None:
            raise InputError(f"{name}: in no package of the lock; {user} needs it")
        found[name] = path.resolve()
        wanted += [(other, name) for other in _needed(path)]
    return found


def _needed(path: Path) -> tuple[str, ...]:
    dynamic = elf.read(path)
    return dynamic.needed if dynamic is not None else ()


def _bytecode(files: Iterable[Source], tag: str, tree: Path, work: Path) -> list[Source]:
    modules = sorted((file for file in files if file.path.endswith(".py")), key=lambda file: file.path)
    given = ((f"{MOUNTS['python']}/{file.path}", file.read()) for file in modules)
    made = bytecode.compile_all(given, Interpreter(tree), work)
    return [
        sources.of_bytes(pyc.pyc_path(file.path, tag), data)
        for file, data in zip(modules, made, strict=True)
        if data
    ]
