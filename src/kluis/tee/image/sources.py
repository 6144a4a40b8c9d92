"""Sources of a layer's files: a path inside the layer, and bytes outside that were hashed once."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from kluis.errors import AuthenticityError, FormatError, UnavailableError, UsageError
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.tee.image import layers

CHUNK: Final = 1 << 20
# An interpreter with its site module would run these files automatically.
HOOKS: Final = frozenset({"sitecustomize", "usercustomize"})


@frozen
class Source:
    """One file of a layer: ``path`` inside it, and its bytes, in memory or in part of a file.

    Attributes:
        sha256: hex, computed when the source was created; ``copy`` checks the bytes against it.
        offset: where the bytes start in ``origin``, if that is a file.
        tree: a folder that contains ``origin`` at ``path``, and otherwise only files of the same layer.
    """

    path: str
    mode: int
    size: int
    sha256: str
    origin: Path | bytes
    offset: int = 0
    tree: Path | None = None

    def copy(self, sink: Callable[[bytes], object]) -> None:
        """Pass the bytes to ``sink`` in pieces.

        Raises:
            AuthenticityError: they have changed since they were hashed.
            UnavailableError: they cannot be read.
        """
        if isinstance(self.origin, bytes):
            sink(self.origin)
            return
        got, left = hashlib.sha256(), self.size
        try:
            with self.origin.open("rb") as f:
                f.seek(self.offset)
                while left and (chunk := f.read(min(left, CHUNK))):
                    got.update(chunk)
                    _hand(chunk, sink)
                    left -= len(chunk)
        except OSError as error:
            raise UnavailableError(f"{self.origin}: cannot be read: {error.strerror}") from error
        if left or got.hexdigest() != self.sha256:
            raise AuthenticityError(f"{self.origin}: changed while the image was built")

    def read(self) -> bytes:
        """Read it completely, with the checks of ``copy``."""
        parts: list[bytes] = []
        self.copy(parts.append)
        return b"".join(parts)

    def head(self, most: int) -> bytes:
        """Its first ``most`` bytes, not checked.

        Raises:
            UnavailableError: they cannot be read.
        """
        if isinstance(self.origin, bytes):
            return self.origin[:most]
        try:
            with self.origin.open("rb") as f:
                f.seek(self.offset)
                return f.read(min(most, self.size))
        except OSError as error:
            raise UnavailableError(f"{self.origin}: cannot be read: {error.strerror}") from error


def _hand(chunk: bytes, sink: Callable[[bytes], object]) -> None:
    try:
        sink(chunk)
    except OSError as error:  # of what is written, and not of what is read
        raise UnavailableError(
            f"the copy cannot be written: {error.strerror}", hint="df -h shows which disk is full"
        ) from error


def of_bytes(path: str, data: bytes, mode: int = layers.FILE_MODE) -> Source:
    """A file with bytes in memory."""
    layers.check_path(path, path)
    return Source(path, mode, len(data), sha256(data).hex(), data)


def of_file(path: str, origin: Path, mode: int = layers.FILE_MODE) -> Source:
    """A file on disk; it is read and hashed here.

    Raises:
        UsageError: not a regular file, or its name is not allowed in an index.
        UnavailableError: it cannot be read.
    """
    try:
        layers.check_path(path, str(origin))
    except (FormatError, UnicodeEncodeError) as error:
        raise UsageError(f"{str(origin)!r}: its name is not allowed in an image") from error
    try:
        if not stat.S_ISREG(origin.stat().st_mode):
            raise UsageError(f"{origin}: want a regular file, got something else")
        with origin.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            digest = hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as error:
        raise UnavailableError(f"{origin}: cannot be read: {error.strerror}") from error
    return Source(path, mode, size, digest, origin)


def read(path: str, origin: Path) -> Source:
    """A small file on disk, read once into memory: a concurrent edit cannot corrupt it.

    Raises:
        UnavailableError: it cannot be read.
    """
    try:
        return of_bytes(path, origin.read_bytes())
    except OSError as error:
        raise UnavailableError(f"{origin}: cannot be read: {error.strerror}") from error


def walk(root: Path, keep: Callable[[str, bool], bool]) -> Iterator[tuple[str, Path]]:
    """Every file below ``root`` in order of path, as path inside and path outside.

    Links to files are followed, because their bytes are measured; links to directories are refused, because
    they could lead anywhere and form cycles.

    Args:
        root: folder to walk.
        keep: called with a path relative to ``root`` and whether it is a directory; returns whether to
            include it.

    Raises:
        UsageError: an included directory is a link.
        UnavailableError: a directory cannot be read.
    """

    def fail(error: OSError) -> None:
        raise UnavailableError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for folder, folders, files in os.walk(root, onerror=fail):
        base = os.path.relpath(folder, root)
        prefix = "" if base == "." else base.replace(os.sep, "/") + "/"
        folders[:] = sorted(name for name in folders if keep(prefix + name, True))
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise UsageError(
                    f"{os.path.join(folder, name)}: is a link to a directory", hint="copy it, or exclude it"
                )
        for name in sorted(files):
            if keep(prefix + name, False):
                yield prefix + name, Path(folder) / name


class HookError(UsageError):
    """A file that an interpreter would run automatically, or bytecode without source."""

    code = "unmeasured_code"


def refuse_hooks(path: str, where: str) -> None:
    """Refuse files that an interpreter runs automatically, and bytecode without source.

    Raises:
        HookError: a ``.pth`` file, sitecustomize, usercustomize, or bytecode.
    """
    top, name = path.partition("/")[0], path.rpartition("/")[2]
    if name.endswith(".pth"):
        raise HookError(f"{where}: {path}: want no .pth file, which would run code at start")
    if (stem := top.split(".", 1)[0]) in HOOKS:
        raise HookError(f"{where}: {path}: want no {stem}, which would run code at start")
    if name.endswith((".pyc", ".pyo")):
        raise HookError(f"{where}: {path}: want source, got bytecode that nobody can review")
