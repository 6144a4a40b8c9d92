"""Compute the hash tree of dm-verity: format 1, SHA-256, blocks of 4096 bytes, no salt, no superblock.

The file system comes first, then the tree: its top level first, the hashes of data blocks last. The salt is
empty because the tree is public: it only prevents a tree that is computed before the salt is known, and the
file system of a release is known to everyone.

Spec: Linux, Documentation/admin-guide/device-mapper/verity.rst; cryptsetup, "DMVerity", "Hash area".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from kluis.errors import FormatError
from kluis.frozen import frozen

BLOCK: Final = 4096
DIGEST: Final = 32


@frozen
class Tree:
    """The hash tree of some data.

    Attributes:
        root_hash: 32 bytes.
        blocks: number of data blocks.
        levels: the tree as on disk: whole blocks, top level first; empty for a single data block.
    """

    root_hash: bytes
    blocks: int
    levels: bytes


def tree(data: BinaryIO) -> Tree:
    """Compute the tree of everything in ``data``, from its current position.

    Raises:
        FormatError: it is empty, or not a whole number of blocks.
    """
    hashes = [hashlib.sha256(block).digest() for block in _blocks(data)]
    blocks = len(hashes)
    if not blocks:
        raise FormatError("root file system: want at least 1 block of 4096 bytes, got 0")
    levels: list[bytes] = []
    while len(hashes) > 1:
        level = b"".join(_pack(hashes))
        levels.insert(0, level)
        hashes = [hashlib.sha256(level[at : at + BLOCK]).digest() for at in range(0, len(level), BLOCK)]
    return Tree(hashes[0], blocks, b"".join(levels))


def append(image: Path) -> Tree:
    """Compute the tree of a file system, and append it to the file.

    Raises:
        FormatError: the file is empty, or not a whole number of blocks.
    """
    with image.open("r+b") as f:
        appended = tree(f)
        f.write(appended.levels)
    return appended


def check(image: BinaryIO, root_hash: bytes, blocks: int) -> bool:
    """Whether the first ``blocks`` blocks of an image, and the tree after them, have the root hash."""
    head = _Head(image, blocks * BLOCK)
    try:
        computed = tree(head)  # type: ignore[arg-type]  # it has the one method that is used
    except FormatError:
        return False
    return computed.blocks == blocks and computed.root_hash == root_hash and image.read() == computed.levels


class _Head:
    """The first bytes of a file."""

    def __init__(self, image: BinaryIO, size: int) -> None:
        self._image, self._left = image, size

    def read(self, size: int) -> bytes:
        data = self._image.read(min(size, self._left))
        self._left -= len(data)
        return data


def _blocks(data: BinaryIO) -> Iterator[bytes]:
    while block := data.read(BLOCK):
        if len(block) != BLOCK:
            raise FormatError(
                f"root file system: want whole blocks of 4096 bytes, got {len(block)} at the end"
            )
        yield block


def _pack(hashes: Iterable[bytes]) -> Iterator[bytes]:
    joined = b"".join(hashes)
    for at in range(0, len(joined), BLOCK):
        yield joined[at : at + BLOCK].ljust(BLOCK, b"\0")
