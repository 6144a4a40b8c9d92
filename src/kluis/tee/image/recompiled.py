"""Is an image's bytecode what its source compiles to? Interpreters run the one, and people read the other.

Bytecode is made the same way everywhere (:mod:`kluis.tee.image.bytecode`), so it is compiled again and
compared byte for byte. That takes the interpreter that made it: under another one nothing is known.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator
from typing import BinaryIO

from kluis.errors import AuthenticityError
from kluis.tee.image import archive, bytecode
from kluis.tee.image.archive import Image
from kluis.tee.image.layers import Layer

__all__ = ["check", "comparable", "differing"]


def comparable(image: Image) -> bool:
    """Whether this interpreter is of the version that the image's bytecode is for."""
    return image.manifest.python == platform.python_version()


def differing(f: BinaryIO, image: Image, among: Collection[str] | None = None) -> Iterator[str]:
    """Bytecode that its source, in the same image, does not compile to: ``layer/path`` of each.

    Args:
        f: the image's file; its layers are read, and each file that is read is held to its hash.
        image: as read from it; ``comparable``.
        among: of which ``layer/path`` only; None: of all.

    Raises:
        AuthenticityError: a file is not what its layer's index says.
    """
    for layer in image.layers:
        yield from _differing(f, layer, among)


def check(f: BinaryIO, image: Image) -> bool:
    """Refuse an image whose bytecode its source does not compile to.

    Returns:
        False if that cannot be known here: the image is for another version of Python.

    Raises:
        AuthenticityError: names the first one; code ``bytecode``.
    """
    if not comparable(image):
        return False
    for path in differing(f, image):
        raise AuthenticityError(
            f"image: {path}: want what its source compiles to, got other bytecode",
            hint="do not use this image: what it runs is not what its source shows",
            code="bytecode",
        )
    return True


def _differing(f: BinaryIO, layer: Layer, among: Collection[str] | None) -> Iterator[str]:
    entries = {entry.path: entry for entry in layer.files}
    sources = {bytecode.pyc_path(path): path for path in entries if path.endswith(".py")}
    for path, entry in entries.items():
        name = f"{layer.name}/{path}"
        if not path.endswith((".pyc", ".pyo")) or (among is not None and name not in among):
            continue
        source = entries.get(sources.get(path, ""))
        if source is None:
            yield name
            continue
        made = bytecode.compile_source(archive.read_file(f, layer, source), f"{layer.mount}/{source.path}")
        if made is None or len(made) != entry.size or made != archive.read_file(f, layer, entry):
            yield name
