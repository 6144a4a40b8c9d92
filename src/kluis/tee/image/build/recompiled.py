"""Check that an image's bytecode matches its source: interpreters run the first, people read the second.

Bytecode is reproducible (:mod:`kluis.tee.image.build.bytecode`), so it is compiled again and compared byte
for byte. That needs the same version of the interpreter, which the installed runtime contains: an image for
another version cannot be checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from kluis.errors import AuthenticityError, UnavailableError
from kluis.tee.image import archive, pyc
from kluis.tee.image.archive import Image
from kluis.tee.image.build import bytecode, cache, compiler, interpreter
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.image.layers import Entry, Layer
from kluis.tee.process import native


def comparable(image: Image) -> bool:
    """Whether the installed runtime has the Python version of the image's bytecode."""
    return image.manifest.python == version()


def version() -> str:
    """The version of Python that this installation can compare; ``none`` without a runtime."""
    try:
        return interpreter.version()
    except UnavailableError:
        return "none"


def has_installed_interpreter(image: Image) -> bool:
    """Whether the image's interpreter and its libraries are those of the installed runtime, to the byte."""
    layer = image.layer("python")
    try:
        return layer is not None and layer.digest.hex() == native.runtime().digest
    except UnavailableError:
        return False


def differing(f: BinaryIO, image: Image, among: Collection[str] | None = None) -> Iterator[str]:
    """Bytecode that does not match its source in the same image: ``layer/path`` of each.

    Args:
        f: the image's file; its layers are read, and each file read is checked against its hash.
        image: as read from it; ``comparable``.
        among: check only these ``layer/path``; None: all.

    Raises:
        AuthenticityError: a file does not match its layer's index.
        FormatError: a source takes unreasonable time or memory, code ``compile_limit``; or is not in UTF-8,
            code ``source_encoding``.
    """
    base = native.runtime().digest
    store = cache.of_user()
    with store.work() as work:
        python = interpreter.lay(store, work)
        for layer in image.layers:
            if layer.digest.hex() != base:  # which the runtime has itself, bytecode and all
                yield from _differing(f, layer, among, python, work)


def check_encodings(f: BinaryIO, image: Image, among: Collection[str]) -> None:
    """Refuse sources in another encoding than UTF-8: they do not show what runs. For any version of Python.

    Args:
        f: the image's file.
        image: as read from it.
        among: ``layer/path`` of the sources to check.

    Raises:
        AuthenticityError: a file does not match its layer's index.
        FormatError: one is in another encoding, code ``source_encoding``.
    """
    for layer in image.layers:
        for entry in layer.files:
            if f"{layer.name}/{entry.path}" in among:
                bytecode.check_encoding(_head(f, layer, entry), f"{layer.mount}/{entry.path}")


def check(f: BinaryIO, image: Image) -> bool:
    """Refuse an image whose bytecode does not match its source.

    Returns:
        False if this cannot be checked here: the image is for another version of Python.

    Raises:
        AuthenticityError: names the first mismatch; code ``bytecode``.
        FormatError: as :func:`differing` raises it.
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


def _differing(
    f: BinaryIO, layer: Layer, among: Collection[str] | None, python: Interpreter, work: Path
) -> Iterator[str]:
    entries = {entry.path: entry for entry in layer.files}
    tag = native.runtime().tag
    sources = {pyc.pyc_path(path, tag): path for path in entries if path.endswith(".py")}
    for path in (path for name, path in sources.items() if name not in entries):
        bytecode.check_encoding(
            _head(f, layer, entries[path]), f"{layer.mount}/{path}"
        )  # compiled when imported
    pairs: list[tuple[Entry, Entry]] = []
    for path, entry in entries.items():
        name = f"{layer.name}/{path}"
        if not path.endswith((".pyc", ".pyo")) or (among is not None and name not in among):
            continue
        source = entries.get(sources.get(path, ""))
        if source is None or source.size > bytecode.MAX_SOURCE_BYTES:
            yield name
        else:
            pairs.append((entry, source))
    modules = ((f"{layer.mount}/{source.path}", archive.read_file(f, layer, source)) for _, source in pairs)
    for (entry, _), made in zip(pairs, bytecode.compile_all(modules, python, work), strict=True):
        if len(made) != entry.size or made != archive.read_file(f, layer, entry):
            yield f"{layer.name}/{entry.path}"


def _head(f: BinaryIO, layer: Layer, entry: Entry) -> bytes:
    """Enough of a source to see its encoding; a small one is checked against its hash."""
    if entry.size <= bytecode.MAX_SOURCE_BYTES:
        return archive.read_file(f, layer, entry)
    f.seek(layer.data_offset + entry.offset)
    return f.read(compiler.HEAD_BYTES + 1)
