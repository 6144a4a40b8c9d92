"""Chunks of a log that are read: whole ones by their table, an open one up to its last signature."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.formats.ccf.chunk import START, ChunkName
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry, size_at
from kluis.hashes import sha256
from kluis.serve.ledger.journal import Record


class Committed:
    """A whole chunk. Its file is open only while it is read: a log may have more chunks than a process may
    have files.

    Attributes:
        name: of its file.
        last: its last seqno.

    Args:
        folder: of its file.
        name: of its file.
        table: offset of its table.
    """

    def __init__(self, folder: Path, name: ChunkName, table: int) -> None:
        self.name = name
        self.last = name.last or name.first
        self._path = folder / str(name)
        self._table = table

    @classmethod
    def open(cls, folder: Path, name: ChunkName) -> Self:
        """The chunk of a file that was there before.

        Raises:
            FormatError: its table does not fit its name or its size.
        """
        with (folder / str(name)).open("rb") as file:
            size, table = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(START), "little")
        chunk = cls(folder, name, table)
        count = chunk.last - name.first + 1
        if table + 4 * count != size:
            raise FormatError(
                f"{name}.table at 0x0: want {size - 4 * count}, for {count} entries, got {table}",
                code="bad_length",
            )
        return chunk

    def read(self, first: int, most: int) -> bytes:
        """Entries from ``first`` on: at least one, and as many as ``most`` bytes hold.

        Raises:
            FormatError: the table is not one.
            OSError: the file cannot be read.
        """
        base = first - self.name.first
        count = self.last - first + 1
        wanted = count if most else 1
        in_table = min(wanted + 1, count)
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.pread(file, 4 * in_table, self._table + 4 * base)
            if len(raw) != 4 * in_table:
                raise FormatError(f"{self.name}.table: is cut short", code="truncated")
            offsets = array("I", raw)
            if wanted == count:  # the last entry ends where the table begins
                offsets.append(self._table)
            end = 1
            while end < wanted and offsets[end + 1] - offsets[0] <= most:
                end += 1
            size = offsets[end] - offsets[0]
            if not START <= offsets[0] < self._table or not 0 < size <= self._table:
                raise FormatError(f"{self.name}.table: offsets of {first} do not rise", code="bad_encoding")
            return os.pread(file, size, offsets[0])
        finally:
            os.close(file)

    def has(self, records: Sequence[Record]) -> bool:
        """Whether it has the batches of a journal, each in its place.

        Raises:
            OSError: the file cannot be read.
        """
        if records[0].first != self.name.first:
            return False
        with self._path.open("rb") as file:
            return all(
                one.offset < self._table and os.pread(file.fileno(), len(one.batch), one.offset) == one.batch
                for one in records
            )

    def head(self) -> bytes:
        """The head of a log that ends with this chunk, 40 bytes."""
        return self.last.to_bytes(8, "big") + sha256(self.read(self.last, 0))


def whole_until_signature(data: bytes, what: str) -> tuple[list[int], bytes]:
    """Where each entry of an open chunk begins, up to the last one that is a signature, and where that ends.

    What follows is what a crash left: of a batch that was never acknowledged, or of a table.

    Args:
        data: the file's bytes.
        what: its name, for messages.

    Returns:
        The offsets, and the bytes of the last entry.
    """
    offsets, signed, last = [START], 1, b""
    at = START
    while at < len(data):
        try:
            after = at + size_at(data, at, what)
            entry = data[at:after]
            writes = PublicDomain.parse(Entry.parse(entry, what).public, what).writes
        except FormatError:
            break
        offsets.append(after)
        if tables.SIGNATURES in writes or tables.COSE_SIGNATURES in writes:
            signed, last = len(offsets), entry
        at = after
    return offsets[:signed], last


def sizes_of(batch: bytes) -> tuple[list[int], tuple[int, int]]:
    """Sizes of the entries of a batch, and the flags of its first and its last."""
    sizes, at = [], 0
    while at < len(batch):
        sizes.append(size_at(batch, at, "batch"))
        at += sizes[-1]
    return sizes, (batch[1], batch[at - sizes[-1] + 1])


def read_open(
    file: int, offsets: array[int], base: int, most: int, unwritten: tuple[bytes, int] | None
) -> bytes:
    """Entries of the open chunk, back to back: at least one.

    Args:
        file: of the chunk.
        offsets: where each entry begins, and where the last one ends.
        base: the first one's index.
        most: bytes, unless the first entry already has more.
        unwritten: the last batch and where it belongs, if the file does not have it.
    """
    start, last = offsets[base], base + 1
    while last + 1 < len(offsets) and offsets[last + 1] - start <= most:
        last += 1
    end = offsets[last]
    batch, at = unwritten or (b"", end)
    if end <= at:
        return os.pread(file, end - start, start)
    return os.pread(file, max(0, at - start), start) + batch[max(0, start - at) : end - at]
