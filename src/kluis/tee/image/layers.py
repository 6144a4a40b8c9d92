"""A layer of an image: its index of files, and their offsets.

An index is a canonical JSON list of ``{mode, offset, path, sha256, size}``, sorted by path;
directories are implied. The layer's digest is the SHA-256 of its index, which pins every file.
Offsets count from the start of the layer's data; each file starts at the first multiple of 4096
after the one before it, so an index has one layout and nothing can hide between files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from kluis.errors import FormatError
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.tee.image import canonical

ALIGNMENT: Final = 4096
MAX_INDEX_BYTES: Final = 64 << 20
MAX_FILES: Final = 200_000
MAX_FOLDERS: Final = 50_000
"""Limit for a layer. A path of 1024 bytes names up to 511, so a short index could name millions."""
MAX_PATH_BYTES: Final = 1024
MAX_DATA_BYTES: Final = 1 << 40
FILE_MODE: Final = 0o444
PROGRAM_MODE: Final = 0o555
_HEX: Final = frozenset("0123456789abcdef")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One file: ``sha256`` is 64 hex digits, ``size`` and ``offset`` are bytes."""

    mode: int
    offset: int
    path: str
    sha256: str
    size: int


@frozen
class Layer:
    """One layer of a parsed image; the data itself stays in the file.

    Attributes:
        digest: SHA-256 of the index, 32 bytes.
        data_offset: of the data in the ``.kluis`` file.
        data_size: bytes of data, from the first file's start to the last one's end.
    """

    name: str
    mount: str
    digest: bytes
    files: tuple[Entry, ...]
    data_offset: int
    data_size: int


def align(offset: int) -> int:
    """Round up to an allowed start of a file."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def encode_index(files: Iterable[tuple[str, int, int, str]]) -> tuple[bytes, int]:
    """Lay files out and encode their index.

    Args:
        files: path, mode, size in bytes and SHA-256 (hex) of each, in any order.

    Returns:
        The index, and the size of the data in bytes.

    Raises:
        FormatError: two files with one path, or anything else that ``parse_index`` would refuse.
    """
    entries, end = [], 0
    for path, mode, size, digest in sorted(files):
        start = align(end)
        entries.append(Entry(mode=mode, offset=start, path=path, sha256=digest, size=size))
        end = start + size
    index = canonical.encode(entries)
    parse_index(index, end, "layer")
    return index, end


def parse_index(data: bytes, data_size: int, what: str) -> tuple[Entry, ...]:
    """Parse an index, strictly.

    Args:
        data: the index, at most 64 MiB.
        data_size: bytes of data, all of which the index must describe.
        what: the layer's name, for messages.

    Raises:
        FormatError: not canonical, not sorted, a path that is not plain and relative, a file that is also a
            directory, or a layout with overlaps or gaps.
    """
    if len(data) > MAX_INDEX_BYTES:
        raise FormatError(f"{what}.index: want at most {MAX_INDEX_BYTES} bytes, got {len(data)}")
    entries = tuple(canonical.decode(data, list[Entry], f"{what}.index"))
    if len(entries) > MAX_FILES:
        raise FormatError(f"{what}.index: want at most {MAX_FILES} files, got {len(entries)}")
    end, previous = 0, ""
    directories: set[str] = set()
    names: set[str] = set()
    for entry in entries:
        where = f"{what}.index: {entry.path!r}"
        if entry.path <= previous:
            raise FormatError(f"{where}: want paths sorted and unique, got it after {previous!r}")
        check_path(entry.path, where)
        if entry.mode not in (FILE_MODE, PROGRAM_MODE):
            raise FormatError(f"{where}: want mode 0o444 or 0o555, got {entry.mode:#o}")
        if len(entry.sha256) != 64 or not _HEX.issuperset(entry.sha256):
            raise FormatError(f"{where}: want a SHA-256 of 64 hex digits, got {entry.sha256[:80]!r}")
        if entry.offset != align(end) or not 0 <= entry.size <= MAX_DATA_BYTES:
            raise FormatError(f"{where}: want it at {align(end)}, got {entry.offset}, {entry.size} bytes")
        end, previous = entry.offset + entry.size, entry.path
        names.add(entry.path)
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in directories:
            directories.add(parent)
            parent = parent.rpartition("/")[0]
        if len(directories) > MAX_FOLDERS:
            raise FormatError(f"{what}.index: want at most {MAX_FOLDERS} folders, got more")
    if clash := names & directories:
        raise FormatError(f"{what}.index: {min(clash)!r}: is a file and a directory")
    if end != data_size:
        raise FormatError(f"{what}: want {end} bytes of data, as in its index, got {data_size}")
    return entries


def check_path(path: str, where: str) -> None:
    """Refuse a path that is not plain and relative.

    Raises:
        FormatError: absolute, empty parts, ``.`` or ``..``, control characters, or too long.
    """
    raw = path.encode("utf-8", "surrogatepass")
    parts = path.split("/")
    if not path or len(raw) > MAX_PATH_BYTES or not path.isprintable():
        raise FormatError(f"{where}: want a printable path of 1 to {MAX_PATH_BYTES} bytes")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise FormatError(f"{where}: want a plain relative path")


def digest(index: bytes) -> bytes:
    """The layer's digest: SHA-256 of its index, 32 bytes."""
    return sha256(index)
