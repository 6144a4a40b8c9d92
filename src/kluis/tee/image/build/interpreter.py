"""The ``python`` layer of every image, and its interpreter, which builds run.

Both come from the installed runtime: no Python, C library or compiler of this machine goes into an image.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from kluis.errors import AuthenticityError, UnavailableError
from kluis.frozen import frozen
from kluis.tee.image import layers
from kluis.tee.image.build import elf
from kluis.tee.image.build.cache import Cache
from kluis.tee.image.manifest import LOADER
from kluis.tee.image.sources import Source
from kluis.tee.process import native


def version() -> str:
    """The interpreter's version, as the manifest states it."""
    return native.runtime().python


def base() -> list[Source]:
    """Every file of the base layer.

    Raises:
        AuthenticityError: it does not match the runtime's digest.
        UnavailableError: there is no runtime.
    """
    return _read(native.base_layer(), native.runtime().digest)


def inside() -> list[Source]:
    """Every file of the libraries that Kluis uses inside an enclave; raises as :func:`base`."""
    return _read(native.inside_layer(), native.runtime().inside)


def _read(path: Path, want: str) -> list[Source]:
    """Read a layer's index; each file is checked against its hash when it is copied."""
    try:
        with path.open("rb") as f:
            index = f.read(min(int.from_bytes(f.read(8), "little"), layers.MAX_INDEX_BYTES))
            size = int.from_bytes(f.read(8), "little")
            start = f.tell()
    except OSError as error:
        raise UnavailableError(
            f"{path}: cannot be read: {error.strerror}", code="native_missing", hint=native.reinstall()
        ) from error
    if (got := layers.digest(index).hex()) != want:
        raise AuthenticityError(
            f"{path}: want SHA-256 {want} of its index, got {got}", hint=native.reinstall()
        )
    entries = layers.parse_index(index, size, path.name)
    return [Source(e.path, e.mode, e.size, e.sha256, path, start + e.offset) for e in entries]


@frozen
class Interpreter:
    """The base layer's interpreter, extracted to a folder so that a build can run it."""

    tree: Path

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs it, isolated: no site, no environment, no bytecode written."""
        loader, libraries = str(self.tree / LOADER), str(self.tree / "lib")
        return [
            loader,
            "--library-path",
            libraries,
            str(self.tree / "bin/python"),
            "-I",
            "-S",
            "-B",
            *arguments,
        ]


def lay(store: Cache, work: Path) -> Interpreter:
    """Extract the base layer into the cache, unless an earlier build left a complete one there.

    Args:
        store: the folder for it; every file is checked each time.
        work: a folder that exists for this build, on the cache's file system.

    Raises:
        UnavailableError: there is no runtime, or the cache cannot be written.
    """
    files, program = base(), native.program()
    place = store.runtimes / native.runtime().digest
    want = {file.path: file.sha256 for file in files} | {"bin/python": native.runtime().program}
    # One at a time: a second build that found none would remove the one that the first runs by now.
    with store.laying():
        if not _whole(place, want):
            fresh = work / "python"
            write(fresh, files)
            shutil.copyfile(program, fresh / "bin/python")
            (fresh / "bin/python").chmod(layers.PROGRAM_MODE)
            shutil.rmtree(place, ignore_errors=True)
            try:
                fresh.rename(place)
            except OSError as error:
                raise UnavailableError(f"{place}: cannot be written: {error.strerror}") from error
    return Interpreter(place)


def write(folder: Path, files: Iterable[Source]) -> None:
    """Write the files of a layer into a folder, each checked as it is copied."""
    made = set()
    for file in files:
        path = folder / file.path
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        with path.open("xb") as out:
            file.copy(out.write)
        path.chmod(file.mode)


def _whole(place: Path, want: Mapping[str, str]) -> bool:
    try:
        paths = [path for path in place.rglob("*") if not path.is_dir() or path.is_symlink()]
        if len(paths) != len(want):
            return False
        for path, digest in want.items():
            with (place / path).open("rb") as f:
                if hashlib.file_digest(f, "sha256").hexdigest() != digest:
                    return False
    except OSError:
        return False
    return True


def missing(objects: Mapping[str, Path], base_files: Iterable[Source]) -> dict[str, list[str]]:
    """Libraries that ``objects`` need and that are in no layer: name, and the files that need it.

    Args:
        objects: ELF files of all other layers, path inside to path outside; other files are ignored.
        base_files: the base layer.

    Raises:
        FormatError: an ELF file is damaged.
    """
    names = {file.path.rpartition("/")[2] for file in base_files}
    names |= {path.rpartition("/")[2] for path in objects}
    lacking: dict[str, list[str]] = {}
    for inside_path, path in sorted(objects.items()):
        dynamic = elf.read(path)
        for name in dynamic.needed if dynamic is not None else ():
            if name not in names:
                lacking.setdefault(name, []).append(inside_path)
    return lacking
