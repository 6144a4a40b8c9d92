"""Seal a model: the owner encrypts a folder of weights under a key, for an enclave to open.

The format is that of :mod:`kluis.formats.kluis.sealed_model`. The key is a JWK of type ``oct``, which a key
service imports as it is (RFC 7517; RFC 7518, "Parameters for Symmetric Keys").
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from kluis import files
from kluis.errors import FormatError, KluisError, UsageError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis.sealed_model import (
    KEY_BYTES,
    MAX_FILES,
    MAX_HEADER_BYTES,
    SALT_BYTES,
    Header,
    ModelKeys,
    SealedFile,
    check_name,
    spans,
)

__all__ = ["files_of", "new_key", "read_header", "read_key", "seal_model"]

_MAX_KEY_FILE: Final = 4096
_WHAT: Final = "model key"


def new_key(path: Path) -> bytes:
    """Generate a key, and write it to a new file of mode 0600, as a JWK.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    key = os.urandom(KEY_BYTES)
    document = jcs.dumps({"kty": "oct", "k": b64.encode_url(key)}) + b"\n"
    try:
        files.write_new(path, document)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    return key


def read_key(path: Path) -> bytes:
    """Read a key of 32 bytes from a JWK of type ``oct``.

    Raises:
        UnavailableError: the file cannot be read.
        FormatError: not such a key.
    """
    document = files.read(path, _MAX_KEY_FILE)
    try:
        members = Members(jcs.loads(document, _WHAT), _WHAT)
        kty, key = members.text("kty"), b64.decode_url(members.text("k"), _WHAT)
    except KluisError:  # its text would quote the key
        kty, key = "", b""
    if kty != "oct" or len(key) != KEY_BYTES:
        raise FormatError(
            f"{path}: want a JWK of type oct with {KEY_BYTES} bytes, got another",
            hint="kluis model seal writes such a file if --key names none that exists",
        )
    return key


def read_header(path: Path) -> Header:
    """Read what a sealed model states about itself; nothing is verified.

    Raises:
        UsageError: the file cannot be read.
        FormatError: not a sealed model, or another size than its files have.
    """
    with files.named(path) as file:
        size = os.fstat(file.fileno()).st_size
        return Header.parse(file.read(MAX_HEADER_BYTES + 64), size)[0]


def seal_model(folder: Path, output: Path, key: bytes) -> Header:
    """Seal all files of a folder, and of the folders in it, into one file.

    Each file is read twice: its MAC is in the header, which precedes it.

    Args:
        folder: of regular files with plain names; a link is refused.
        output: written completely or not at all.
        key: 32 bytes.

    Raises:
        UsageError: no files, too many, or one that is not regular, cannot be read, or changes meanwhile.
        FormatError: a file's name is not plain.
    """
    paths = files_of(folder)
    salt = os.urandom(SALT_BYTES)
    keys = ModelKeys(key, salt)
    described = []
    for name, path in paths.items():
        with _map(path) as data:
            mac = keys.mac()
            for start, end in spans(len(data)):
                mac.update(data[start:end])
            described.append(SealedFile(name, len(data), mac.digest()))
    header = Header(salt, keys.commitment, tuple(described))
    try:
        with files.replacing(output) as file:
            file.write(header.encode())
            for number, one in enumerate(header.files):
                _write_file(file, paths[one.name], keys, header.model_id(), number, one)
    except OSError as error:
        hint = None if output.parent.is_dir() else f"mkdir -p {output.parent}"
        raise UsageError(f"{output}: cannot be written: {error.strerror}", hint=hint) from None
    return header


def _write_file(
    out: BinaryIO, path: Path, keys: ModelKeys, model_id: bytes, number: int, file: SealedFile
) -> None:
    with _map(path) as data:
        mac = keys.mac()
        if len(data) == file.size:
            for chunk, (start, end) in enumerate(spans(file.size)):
                plain = bytes(data[start:end])
                mac.update(plain)
                out.write(keys.seal(model_id, number, chunk, plain))
    if mac.digest() != file.mac:
        raise UsageError(f"{path}: changed while it was sealed", hint="seal it when nothing writes it")


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a folder that can be sealed, by their names in the model.

    Raises:
        UsageError: no folder, no files, too many, or one that is not regular.
        FormatError: a file's name is not plain.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: want a folder of weights, got no folder")
    paths: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        name = path.relative_to(folder).as_posix()
        if not stat.S_ISREG(mode):
            raise UsageError(
                f"{path}: want a regular file, got a link or another kind", hint="copy its content"
            )
        check_name(name)
        paths[name] = path
    if not 1 <= len(paths) <= MAX_FILES:
        raise UsageError(f"{folder}: want 1 to {MAX_FILES} files, got {len(paths)}")
    return dict(sorted(paths.items()))


@contextmanager
def _map(path: Path) -> Iterator[memoryview]:
    with files.named(path) as file:
        size = os.fstat(file.fileno()).st_size
        mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else None
    with memoryview(mapped or b"") as view:
        yield view
    if mapped is not None:
        mapped.close()
