"""Chunks of a log that are read: whole ones by their table, an open one up to its last signature."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.formats.ccf.chunk import START, ChunkName
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import HEADER, Entry, read_header
from kluis.formats.encoding.reader import Reader
from kluis.hashes import sha256


class Committed:
    """A whole chunk.

    Attributes:
        name: of its file.
        last: its last seqno.

    Raises:
        FormatError: its table does not fit its name or its size.
    """

    def __init__(self, path: Path, name: ChunkName) -> None:
        self.name = name
        self.last = name.last or name.first
        self._path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            count, size = self.last - name.first + 1, os.fstat(self._file).st_size
            self._table = int.from_bytes(os.pread(self._file, START, 0), "little")
            if self._table + 4 * count != size:
                raise FormatError(
                    f"{path.name}.table at 0x0: want {size - 4 * count}, for {count} entries, got"
                    f" {self._table}",
                    code="bad_length",
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close its file."""
        os.close(self._file)

    def read(self, first: int, most: int) -> bytes:
        """Entries from ``first`` on: at least one, and as many as ``most`` bytes hold.

        Raises:
            FormatError: the table is not one.
        """
        base = first - self.name.first
        count = self.last - first + 1
        raw = os.pread(self._file, 4 * count, self._table + 4 * base)
        offsets = array("I", raw)
        offsets.append(self._table)
        end = 1
        while end < count and offsets[end + 1] - offsets[0] <= most:
            end += 1
        size = offsets[end] - offsets[0]
        if not START <= offsets[0] < self._table or not 0 < size <= self._table:
            raise FormatError(f"{self.name}.table: offsets of {first} do not rise", code="bad_encoding")
        return os.pread(self._file, size, offsets[0])

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
    while at + HEADER <= len(data):
        try:
            after = at + HEADER + read_header(Reader(data[at : at + HEADER], what, at))
            if after > len(data):
                break
            entry = data[at:after]
            writes = PublicDomain.parse(Entry.parse(entry, what).public, what).writes
        except FormatError:
            break
        offsets.append(after)
        if tables.SIGNATURES in writes or tables.COSE_SIGNATURES in writes:
            signed, last = len(offsets), entry
        at = after
    return offsets[:signed], last
