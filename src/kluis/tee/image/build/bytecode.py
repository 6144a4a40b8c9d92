"""Reproducible bytecode for every module of a layer, compiled by the interpreter of the base layer."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from kluis.errors import FormatError, KluisError, UnavailableError
from kluis.files import replacing
from kluis.tee.image import layers, pyc, sources
from kluis.tee.image.build import compiler
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.image.sources import Source
from kluis.tee.process import native

_FORMAT: Final = b"kluis-bytecode/2"
MAX_SOURCE_BYTES: Final = 16 << 20
"""A larger module is not compiled: a small image can claim a huge module, as a hole in a sparse file."""
BATCH_BYTES: Final = 16 << 20
"""Bytes of source per process; the module that exceeds it is still included."""
MOST_SECONDS: Final = 30
"""Processor seconds per process, plus one for each ``LEAST_BYTES_A_SECOND`` of source."""
LEAST_BYTES_A_SECOND: Final = 256 << 10
MOST_MEMORY_BYTES: Final = 4 << 30
"""Address space per process: a table of a million numbers needs 1 GiB."""
MOST_OUTPUT_BYTES: Final = 512 << 20
_KEPT_PACKS: Final = 64
_PACK_HEADER: Final = 40


def check_encoding(data: bytes, path: str) -> None:
    """Refuse a source that declares an encoding other than UTF-8; ``data`` is the source, or its head.

    Raises:
        FormatError: names the file and the encoding; code ``source_encoding``.
    """
    if (other := compiler.other_encoding(data)) is not None:
        raise FormatError(
            f"{path}: want source in UTF-8, got encoding {other}",
            hint="do not use such an image; in your own folder, save the file as UTF-8,"
            " or exclude it in kluis.toml",
            code="source_encoding",
        )


def compile_all(
    modules: Iterable[tuple[str, bytes]], python: Interpreter, work: Path, program: str = compiler.__file__
) -> Iterator[bytes]:
    """Compile modules with the base layer's interpreter, whatever Python runs this.

    Each process compiles some megabytes of source, with limits on time, memory and output.

    Args:
        modules: absolute path in the enclave, and source, at most ``MAX_SOURCE_BYTES``; may be hostile.
        python: the interpreter that compiles.
        work: a folder that exists for this build.
        program: what to run on them instead; it takes the same arguments.

    Returns:
        The ``.pyc`` of each, in order; empty where the module cannot be compiled.

    Raises:
        FormatError: names a module that takes unreasonable time or memory, code ``compile_limit``; or one
            that is not in UTF-8, code ``source_encoding``.
        KeyboardInterrupt: Ctrl-C ended the interpreter, even if no handler runs here.
        UnavailableError: the interpreter does not run.
    """
    left = iter(modules)
    while True:
        with tempfile.TemporaryFile(dir=work) as source_file, tempfile.TemporaryFile(dir=work) as compiled:
            names = []
            while source_file.tell() < BATCH_BYTES and (module := next(left, None)) is not None:
                inside, data = module
                check_encoding(data, inside)
                names.append(inside)
                compiler.write_block(source_file, inside.encode())
                compiler.write_block(source_file, data)
            if not names:
                return
            seconds = MOST_SECONDS + source_file.tell() // LEAST_BYTES_A_SECOND
            source_file.seek(0)
            done = subprocess.run(
                python.command(program, str(seconds), str(MOST_MEMORY_BYTES), str(MOST_OUTPUT_BYTES)),
                env={},
                stdin=source_file,
                stdout=compiled,
                stderr=subprocess.PIPE,
                check=False,
            )
            if done.returncode:
                raise _failure(done, names, compiled)
            compiled.seek(0)
            while (made := compiler.read_block(compiled)) is not None:
                yield made


def _failure(done: subprocess.CompletedProcess[bytes], names: list[str], compiled: BinaryIO) -> BaseException:
    """The error for a process that failed: the first of its modules without a result caused it."""
    if done.returncode == -signal.SIGINT:  # Ctrl-C at a terminal is for the whole group
        return KeyboardInterrupt()
    if done.returncode > 0 and done.returncode != compiler.EXCEEDED:
        words = done.stderr.decode("utf-8", "replace").strip()[-500:]
        return UnavailableError(f"the runtime's interpreter cannot compile: {words}")
    compiled.seek(0)
    finished = 0
    while finished < len(names) - 1 and compiler.read_block(compiled) is not None:
        finished += 1
    got = "more memory or output" if done.returncode > 0 else f"an end by {_signal_name(-done.returncode)}"
    return FormatError(
        f"{names[finished]}: want source that compiles within bounds of time, memory and output, got {got}",
        hint="do not use such an image; in your own folder, split the module, or exclude it in kluis.toml",
        code="compile_limit",
    )


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def layer(
    files: Iterable[Source],
    mount: str,
    cache: Path,
    work: Path,
    python: Interpreter,
    say: Callable[[str], None],
) -> list[Source]:
    """Compile every module of a layer, or use the pack that an earlier build of the same files left.

    Args:
        files: the layer's files; those that end in ``.py`` are compiled.
        mount: the layer's mount point, for the file names in the code.
        cache: the folder of packs. A pack's name is a hash of all its inputs, and its bytes are checked
            before use: a stale or damaged one is rebuilt.
        work: a folder that exists for this build, on the cache's file system.
        python: the interpreter that compiles: the base layer's, so that this machine's Python changes no
            byte.
        say: called before steps that may take more than a second.

    Raises:
        FormatError: as :func:`compile_all` raises it.
    """
    tag = native.runtime().tag
    named = [file for file in files if file.path.endswith(".py")]
    for file in named:
        if file.size > MAX_SOURCE_BYTES:  # the others are read when they are compiled
            check_encoding(file.head(compiler.HEAD_BYTES + 1), f"{mount}/{file.path}")
    modules = sorted(
        (file for file in named if file.size <= MAX_SOURCE_BYTES),
        key=lambda file: pyc.pyc_path(file.path, tag),
    )
    key = hashlib.sha256(_FORMAT + Path(compiler.__file__).read_bytes() + native.runtime().digest.encode())
    key.update(f"{mount}\0".encode())
    for file in modules:
        key.update(f"{file.path}\0{file.sha256}\0".encode())
    pack = cache / f"{key.hexdigest()}.pack"
    if (packed := _read_pack(pack)) is not None:
        return packed
    say(f"compiling {len(modules)} module{'s' * (len(modules) > 1)} of {mount}")
    sourced = ((f"{mount}/{file.path}", file.read()) for file in modules)
    made = zip(
        (pyc.pyc_path(file.path, tag) for file in modules), compile_all(sourced, python, work), strict=True
    )
    try:
        _write_pack(pack, (sources.of_bytes(path, data) for path, data in made if data), work)
    except OSError as error:
        raise UnavailableError(f"{pack.parent}: cannot be written: {error.strerror}") from error
    if (packed := _read_pack(pack)) is None:
        raise UnavailableError(f"{pack}: another build changes it; build again")
    return packed


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
    """Write a pack whole, and delete the oldest packs to make room."""
    with tempfile.TemporaryFile(dir=work) as data:
        made, end = [], 0
        for file in files:
            start = layers.align(end)
            data.write(bytes(start - end))
            file.copy(data.write)
            end = start + file.size
            made.append((file.path, file.mode, file.size, file.sha256))
        index, size = layers.encode_index(made)
        sized = size.to_bytes(8, "little")
        got = hashlib.sha256(sized)
        with replacing(pack) as out:
            out.write(bytes(32) + sized)
            data.seek(0)
            while chunk := data.read(1 << 20):
                got.update(chunk)
                out.write(chunk)
            out.write(index)
            got.update(index)
            out.seek(0)
            out.write(got.digest())
    packs = sorted(pack.parent.glob("*.pack"), key=lambda path: path.stat().st_mtime_ns)
    for old in packs[:-_KEPT_PACKS]:
        old.unlink(missing_ok=True)
