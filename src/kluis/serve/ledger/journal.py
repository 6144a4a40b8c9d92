"""The journal of a log: its last batches, in a file that does not grow.

Each flush of a file that grows waits for a transaction of its file system. The journal is written once,
with zeros. From then on a flush waits for the overwritten blocks only. So the log writes a batch here, and
flushes it. Then it writes the batch into its chunk, which it flushes once the journal is full, or the chunk
is whole. After a crash of the machine, what the journal has may be missing in the chunk.

    record = SHA-256 of what follows (32) || run (16) || number (8) || first seqno of the chunk (8)
             || offset in the chunk (8) || head before it (40) || size (8) || batch || zeros to a block's end

Numbers are little-endian. A run is one process that writes, by 16 random bytes. The records of one run whose
numbers follow each other from the start of the file are the journal; what follows them is older.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from kluis import files
from kluis.formats.encoding.layout import U64, Struct, at, layout
from kluis.hashes import sha256

SIZE: Final = 4 << 20
BLOCK: Final = 4096
"""No block has parts of two records: a write that a crash interrupts damages its own record only."""
MOST: Final = 128 << 10
"""Of a batch. A larger one is flushed in its chunk: written twice, it would take longer."""
DIGEST: Final = 32


@layout("journal record", 88)
class Head(Struct):
    """What a record has before its batch."""

    run: bytes = at(0, 16)
    number: int = at(16, U64)
    first: int = at(24, U64)
    offset: int = at(32, U64)
    previous: bytes = at(40, 40)
    size: int = at(80, U64)


class Record(NamedTuple):
    """A batch that may not be in its chunk.

    Attributes:
        first: the chunk's first seqno.
        offset: where the batch belongs in the chunk.
        previous: the log's head before it, 40 bytes.
        batch: its entries, back to back.
    """

    first: int
    offset: int
    previous: bytes
    batch: bytes


class Journal:
    """A journal, of one log that is open.

    Attributes:
        found: the records that were there when it was opened.

    Args:
        path: of its file, which is made if it is not there.

    Raises:
        UnavailableError: it cannot be opened, or is a link, a pipe or another thing.
        OSError: the file has no room on its disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = own_file(path)
        try:
            self.found = self.records()
            if (size := os.fstat(self._file).st_size) < SIZE:
                write_all(self._file, bytes(SIZE - size), size)
                os.fsync(self._file)
        except BaseException:
            os.close(self._file)
            raise
        self._run = os.urandom(16)
        self._number = 0
        self._at = self._next = 0

    def fits(self, batch: bytes) -> bool:
        """Whether there is room for one more batch."""
        return self._at + DIGEST + Head.SIZE + len(batch) <= SIZE

    def write(self, record: Record) -> None:
        """Write a record, on disk by the return; the next one takes its place until :meth:`keep`.

        Raises:
            OSError: the disk does not take it; nobody knows whether it is there.
        """
        first, offset, previous, batch = record
        head = Head(
            run=self._run, number=self._number, first=first, offset=offset, previous=previous, size=len(batch)
        )
        body = head.encode() + batch
        data = sha256(body) + body
        write_all(self._file, data, self._at)
        os.fdatasync(self._file)
        self._next = self._at + -(-len(data) // BLOCK) * BLOCK

    def keep(self) -> None:
        """Keep the record that was written last."""
        if self._next > self._at:
            self._at = self._next
            self._number += 1

    def restart(self) -> None:
        """Let the next record be the first: the chunk has all others, flushed."""
        self._at = self._next = 0
        self._number += 1

    def clear(self) -> None:
        """Forget all records at once, on disk by the return: the chunk has them, flushed.

        Raises:
            OSError: the disk does not take it; the next record is the first all the same.
        """
        self.restart()  # first: after zeros at its start, a journal has none of the records that follow them
        os.pwrite(self._file, bytes(BLOCK), 0)
        os.fdatasync(self._file)

    def records(self) -> list[Record]:
        """The records from the start on, up to the first that is damaged or older."""
        data, begin, parsed = os.pread(self._file, SIZE, 0), 0, list[Record]()
        run, number = b"", 0
        while (body := begin + DIGEST) + Head.SIZE <= len(data):
            head = Head.parse(data[body : body + Head.SIZE])
            end = body + Head.SIZE + head.size
            if end > len(data) or data[begin:body] != sha256(data[body:end]):
                break
            if parsed and (head.run, head.number) != (run, number + 1):
                break
            run, number = head.run, head.number
            parsed.append(Record(head.first, head.offset, head.previous, data[end - head.size : end]))
            begin = -(-end // BLOCK) * BLOCK
        return parsed

    def close(self, *, remove: bool = False) -> None:
        """Let go of it, and of its file if the chunk has everything, flushed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if remove:
                self._path.unlink(missing_ok=True)


def own_file(path: Path) -> int:
    """Open a file of a log to read and write it; make it, for this user only, if it is not there.

    Raises:
        UnavailableError: it cannot be opened, or is a link, a pipe or another thing.
    """
    return files.open_regular(path, os.O_RDWR | os.O_CREAT, mode=0o600)


def write_all(file: int, data: bytes, at: int) -> None:
    """Write all bytes at an offset of an open file."""
    view = memoryview(data)
    while view:
        count = os.pwrite(file, view, at)
        view, at = view[count:], at + count
