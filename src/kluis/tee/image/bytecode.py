"""Reproducible bytecode for every module of a layer.

Spec: PEP 552, unchecked hash-based pycs. Marshal version 2 is written: from version 3 on the bytes
depend on how often an object happens to be referenced in the process that writes them. The code's
file name is the path inside the enclave, so that no path of this machine is in an image.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from kluis.errors import KluisError, UnavailableError
from kluis.tee.image import layers, sources
from kluis.tee.image.sources import Source

MARSHAL_VERSION: Final = 2
_UNCHECKED_HASH: Final = (1).to_bytes(4, "little")
_FORMAT: Final = b"kluis-bytecode/1"
_KEPT_PACKS: Final = 64
_PACK_HEADER: Final = 40


def compile_source(data: bytes, inside: str) -> bytes | None:
    """Compile one module.

    Args:
        data: its source.
        inside: its absolute path in the enclave.

    Returns:
        The ``.pyc``: 16 bytes of header, then the code. None if this interpreter cannot compile
        it, as with templates and modules for other versions.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(data, inside, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(data)
    return header + marshal.dumps(code, MARSHAL_VERSION)


def pyc_path(path: str) -> str:
    """Where the interpreter looks for the bytecode of ``path``."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name[:-3]}.{sys.implementation.cache_tag}.pyc"


def layer(
    files: Iterable[Source], mount: str, cache: Path, work: Path, say: Callable[[str], None]
) -> list[Source]:
    """Compile every module of a layer, or take the pack that an earlier build of the same files left.

    Args:
        files: the layer's files; those that end in ``.py`` are compiled.
        mount: the layer's mount point, in the names of the code.
        cache: the folder of packs. A pack is named by all that goes into it, and its bytes are
            checked before they are used: a stale or damaged one is made again.
        work: a folder for the length of the build, on the cache's file system.
        say: told of what may take more than a second.
    """
    modules = sorted(
        (file for file in files if file.path.endswith(".py")), key=lambda file: pyc_path(file.path)
    )
    key = hashlib.sha256(_FORMAT + f"{sys.version}\0{MARSHAL_VERSION}\0{mount}\0".encode())
    for file in modules:
        key.update(f"{file.path}\0{file.sha256}\0".encode())
    pack = cache / f"{key.hexdigest()}.pack"
    if (found := _read_pack(pack)) is not None:
        return found
    say(f"compiling {len(modules)} module{'s' * (len(modules) > 1)} of {mount}")
    made = (
        sources.of_bytes(pyc_path(file.path), data)
        for file in modules
        if (data := compile_source(file.read(), f"{mount}/{file.path}")) is not None
    )
    try:
        _write_pack(pack, made, work)
    except OSError as error:
        raise UnavailableError(f"{pack.parent}: cannot be written: {error.strerror}") from error
    if (found := _read_pack(pack)) is None:
        raise UnavailableError(f"{pack}: another build changes it; build again")
    return found


def _read_pack(pack: Path) -> list[Source] | None:
    """A pack: SHA-256 of all that follows; u64 size of the data, data, index, both as in a layer."""
    try:
        with pack.open("rb") as f:
            digest, sized = f.read(32), f.read(8)
            size = int.from_bytes(sized, "little")
            got = hashlib.sha256(sized)
            left = size
            while left and (chunk := f.read(min(left, 1 << 20))):
                got.update(chunk)
                left -= len(chunk)
            index = f.read(layers.MAX_INDEX_BYTES)
            got.update(index)
        os.utime(pack)
        if left or got.digest() != digest:
            return None
        entries = layers.parse_index(index, size, "bytecode")
    except (OSError, KluisError):
        return None
    return [Source(e.path, e.mode, e.size, e.sha256, pack, _PACK_HEADER + e.offset) for e in entries]


def _write_pack(pack: Path, files: Iterable[Source], work: Path) -> None:
    """Write a pack beside its place and move it there; the oldest packs make room."""
    with tempfile.TemporaryFile(dir=work) as data:
        made, end = [], 0
        for file in files:
            start = layers.aligned(end)
            data.write(bytes(start - end))
            file.copy(data.write)
            end = start + file.size
            made.append((file.path, file.mode, file.size, file.sha256))
        index, size = layers.encode_index(made)
        sized = size.to_bytes(8, "little")
        got = hashlib.sha256(sized)
        with tempfile.NamedTemporaryFile(dir=work, delete=False) as out:
            try:
                out.write(bytes(32) + sized)
                data.seek(0)
                while chunk := data.read(1 << 20):
                    got.update(chunk)
                    out.write(chunk)
                out.write(index)
                got.update(index)
                out.seek(0)
                out.write(got.digest())
                out.close()
                os.replace(out.name, pack)
            except OSError:
                Path(out.name).unlink(missing_ok=True)
                raise
    packs = sorted(pack.parent.glob("*.pack"), key=lambda path: path.stat().st_mtime_ns)
    for old in packs[:-_KEPT_PACKS]:
        old.unlink(missing_ok=True)
