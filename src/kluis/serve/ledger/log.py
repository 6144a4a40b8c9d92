"""A ledger's log on its host's disk: ciphertext in chunk files, appended a batch at a time.

A batch is flushed in the log's journal, and acknowledged. Then it is written into its chunk, which is
flushed now and then: see :mod:`~kluis.serve.ledger.journal`. A chunk that is whole gets its table and is
renamed. Nothing here is
trusted: the node holds what it reads against its leaves, and nothing here decides what is committed.

``ledger_17``  is open; its header is 0
``ledger_1-16.committed``  is whole

Next to the folder, since CCF's tools read every file in it: ``FOLDER.lock`` is held by the process that
writes, ``FOLDER.journal`` has its last batches until it ends, and ``FOLDER.torn`` has what crashes left after
a chunk's last signature.
"""

from __future__ import annotations

import fcntl
import os
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

from kluis import files
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.formats.ccf.chunk import MAX_CHUNK, START, ChunkName, table_of
from kluis.formats.ccf.entry import CHUNK_AFTER, CHUNK_BEFORE
from kluis.hashes import sha256
from kluis.host.ocalls import AnswerFirst, quick
from kluis.ledger.log_head import EMPTY, MOST_READ, head_of
from kluis.serve.ledger.chunks import Committed, read_open, sizes_of, whole_until_signature
from kluis.serve.ledger.journal import MOST, Journal, Record, own_file, write_all
from kluis.serve.ledger.notes import Notes

MOST_APPENDED: Final = 64 << 20
MOST_EACH: Final = 8
Answer = str
"""``ok``, ``fenced`` or ``unknown``."""


class LedgerLog:
    """A log, for as long as the ``with`` lasts. Thread-safe.

    Attributes:
        folder: of its files, and of nothing else.

    Args:
        folder: made if it is not there.
        report: prints lines for the operator: why the disk takes nothing, and what was put aside.

    Raises:
        UnavailableError: another process writes it, or the folder cannot be used.
        FormatError: a chunk is missing, overlaps another, or has no table that fits its name.
    """

    def __init__(self, folder: Path, report: Callable[[Iterable[str]], None] = lambda lines: None) -> None:
        # By another name of the folder, the lock and the journal would be others.
        self.folder = folder = folder.resolve()
        self._notes = Notes(folder, report)
        self._writing = threading.Lock()
        self._state = threading.Lock()
        self._committed: list[Committed] = []
        # The open chunk: its first seqno, where its entries begin, and its file, which its first batch makes.
        self._first, self._offsets, self._file = 1, array("Q", [START]), -1
        self._head = EMPTY
        # What a write that failed left is cut off first; a chunk that should have ended is ended first.
        self._damaged = self._ends_chunk = False
        # The last batch, and where it belongs, if the journal has it and the chunk does not.
        self._unwritten: tuple[bytes, int] | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _hold(folder.with_name(f"{folder.name}.lock"))
        self._journal: Journal | None = None
        try:
            self._open()
        except OSError as error:
            self._let_go(keep=True)
            raise UnavailableError(f"{folder}: {error.strerror}", hint="see the disk of its folder") from None
        except BaseException:
            self._let_go(keep=True)
            raise

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self.close()

    def close(self) -> None:
        """Let go of it, once what is being written is written."""
        with self._writing:
            if self._lock < 0:
                return
            try:
                if self._damaged:
                    self._repair()
                self._write_chunk()
                self._flush()
                kept = False
            except OSError:  # the journal has what may be missing in the chunk
                kept = True
            self._let_go(keep=kept)

    def _let_go(self, *, keep: bool) -> None:
        if self._journal is not None:
            self._journal.close(remove=not keep)
        with self._state:  # no reader reads a file that has got the number of the closed one
            for file in {self._file, self._lock} - {-1}:
                os.close(file)
            self._lock = self._file = -1

    def head(self) -> bytes:
        """Its head, 40 bytes; :data:`~kluis.ledger.log_head.EMPTY` if there is no entry."""
        with self._state:
            return self._head

    @quick
    def append_first(self, previous: bytes, batch: bytes) -> AnswerFirst:
        """As :meth:`append`, and write the batch into its chunk once the answer was sent."""
        return AnswerFirst(self._append(previous, batch), self._settle)

    def append(self, previous: bytes, batch: bytes) -> Answer:
        """Append entries, if nobody else was first.

        Args:
            previous: the head that they come after.
            batch: entries, back to back; the last one is a signature.

        Returns:
            ``ok``: they are on the disk. ``fenced``: the head is another. ``unknown``: the disk did not take
            them; the same call again is safe, and answers ``ok`` once it does.

        Raises:
            FormatError: the batch is not entries.
            UsageError: it is larger than 64 MiB.
        """
        answer = self._append(previous, batch)
        self._settle()
        return answer

    def _append(self, previous: bytes, batch: bytes) -> Answer:
        if not 0 < len(batch) <= MOST_APPENDED:
            raise UsageError(f"batch: want 1..{MOST_APPENDED} bytes, got {len(batch)}")
        sizes, flags = sizes_of(batch)
        with self._writing:
            if self._lock < 0:
                return "unknown"
            if previous != self._head:
                return "ok" if sha256(batch[-sizes[-1] :]) == self._head[8:] else "fenced"
            try:
                answer = self._write(batch, sizes, flags)
            except BaseException as error:
                self._damaged = True  # whatever it was: what it left is cut off first
                if not isinstance(error, OSError | UnavailableError):
                    raise
                self._notes.failed(error)
                return "unknown"
            self._notes.written()
            return answer

    def read(self, first: int, most: int) -> bytes:
        """Entries from ``first`` on, back to back: at least one if there is one, all of one chunk.

        Args:
            first: a seqno, 1 or more.
            most: bytes, unless the first entry already has more.

        Raises:
            UnavailableError: the disk does not give them.
        """
        if first < 1:
            raise UsageError(f"seqno: want 1 or more, got {first}")
        most = min(most, MOST_READ)
        try:
            with self._state:
                if first >= self._first:
                    offsets, base, file = self._offsets, first - self._first, self._file
                    if base >= len(offsets) - 1:
                        return b""
                    return read_open(file, offsets, base, most, self._unwritten)
                # The chunks follow each other without a gap, and the open one begins after the last.
                chunk = self._committed[bisect_left(self._committed, first, key=lambda one: one.last)]
            return chunk.read(first, most)
        except OSError as error:
            raise UnavailableError(f"ledger: {error.strerror}", hint="see the disk of its folder") from None

    @quick
    def read_each(self, seqnos: list[int]) -> list[bytes]:
        """Entries that need not follow each other; an empty one where there is none.

        Args:
            seqnos: 1 to 8 of them.

        Raises:
            UnavailableError: the disk does not give them.
            UsageError: there are more, or one is below 1.
        """
        if len(seqnos) > MOST_EACH:
            raise UsageError(f"seqnos: want at most {MOST_EACH}, got {len(seqnos)}")
        return [self.read(seqno, 0) for seqno in seqnos]

    def _write(self, batch: bytes, sizes: list[int], flags: tuple[int, int]) -> Answer:
        if self._damaged:
            self._repair()
        self._write_chunk()
        if (self._ends_chunk or flags[0] & CHUNK_BEFORE) and len(self._offsets) > 1:
            self._finish_chunk()
        if self._offsets[-1] + len(batch) > MAX_CHUNK:
            self._finish_chunk()
        at = self._offsets[-1]
        if self._file < 0:
            self._file = own_file(self.folder / str(ChunkName(self._first)))
            files.flush_folder(self.folder)
        journal = self._opened_journal()
        small = len(batch) <= MOST
        if small:
            if not journal.fits(batch):
                self._flush()
            journal.write(Record(self._first, at, self._head, batch))
            journal.keep()
            self._unwritten = batch, at
        else:
            self._put(batch, at)
            os.fdatasync(self._file)
            journal.clear()
        with self._state:
            for size in sizes:
                at += size
                self._offsets.append(at)
            self._head = head_of(self._first + len(self._offsets) - 2, batch[-sizes[-1] :])
        if flags[1] & CHUNK_AFTER:
            self._ends_chunk = True
            try:
                self._finish_chunk()
            except OSError:  # the batch is on the disk; the next one ends the chunk first
                self._damaged = True
        return "ok"

    def _settle(self) -> None:
        """Write the last batch into its chunk. If the disk does not take it, the next batch repairs that."""
        with self._writing:
            try:
                self._write_chunk()
            except OSError:
                self._damaged = True

    def _write_chunk(self) -> None:
        if self._unwritten is not None:
            self._put(*self._unwritten)
            self._unwritten = None

    def _put(self, batch: bytes, at: int) -> None:
        """Write a batch into the open chunk."""
        if at == START:
            write_all(self._file, bytes(START) + batch, 0)
        else:
            write_all(self._file, batch, at)

    def _repair(self) -> None:
        """Forget what a write left that failed: cut the file after the entries that it is known to have.

        What the journal has is written again: after a flush that failed, a file system reports the pages that
        it lost as flushed.
        """
        files.flush_folder(self.folder)  # a chunk may have its new name, and its folder may not be flushed
        end = self._offsets[-1]
        if self._file >= 0:
            os.ftruncate(self._file, end if end > START else 0)
            os.fsync(self._file)  # after a crash, no other batch may follow those of the journal
        if end > START:
            write_all(self._file, bytes(START), 0)
            for record in self._opened_journal().records():
                if record.first == self._first and record.offset + len(record.batch) <= end:
                    write_all(self._file, record.batch, record.offset)
        self._damaged, self._unwritten = False, None

    def _flush(self) -> None:
        """Flush the chunk, and begin the journal again."""
        if self._file >= 0:
            os.fdatasync(self._file)
        self._opened_journal().restart()

    def _opened_journal(self) -> Journal:
        if self._journal is None:
            raise UnavailableError("ledger: its journal is closed")
        return self._journal

    def _finish_chunk(self) -> None:
        """Give the open chunk its table, and rename it; the next batch begins another."""
        self._write_chunk()
        end = self._offsets[-1]
        sizes = [b - a for a, b in zip(self._offsets, self._offsets[1:], strict=False)]
        last = self._first + len(sizes) - 1
        write_all(self._file, table_of(sizes), end)
        os.fdatasync(self._file)
        write_all(self._file, end.to_bytes(START, "little"), 0)
        os.fdatasync(self._file)
        name = ChunkName(self._first, last, "committed")
        (self.folder / str(ChunkName(self._first))).rename(self.folder / str(name))
        with self._state:
            self._committed.append(Committed(self.folder, name, end))
            old, self._file = self._file, -1
            self._first, self._offsets = last + 1, array("Q", [START])
        self._opened_journal().restart()
        self._ends_chunk = False
        os.close(old)
        files.flush_folder(self.folder)

    def _open(self) -> None:
        names = [
            ChunkName.parse(path.name) for path in self.folder.iterdir() if path.name.startswith("ledger_")
        ]
        whole = sorted((one for one in names if one.committed), key=lambda one: one.first)
        for name in whole:
            if name.first != self._first:
                raise FormatError(
                    f"{self.folder}: want a chunk that begins at {self._first}, got {name}", code="ledger_gap"
                )
            self._committed.append(Committed.open(self.folder, name))
            self._first = self._committed[-1].last + 1
        open_ones = [one for one in names if one.last is None and not one.suffix]
        if any(one.first != self._first for one in open_ones):
            others = ", ".join(str(one) for one in open_ones if one.first != self._first)
            raise FormatError(
                f"{self.folder}: want an open chunk ledger_{self._first}, got {others}", code="ledger_gap"
            )
        path = self.folder / str(ChunkName(self._first))
        if self._committed:
            self._head = self._committed[-1].head()
        self._journal = Journal(self.folder.with_name(f"{self.folder.name}.journal"))
        files.flush_folder(self.folder.parent)  # else a crash could take the journal's own name
        journaled = self._journal.found
        records = [one for one in journaled if one.first == self._first]
        if journaled and not records and not any(one.has(journaled) for one in self._committed):
            self._notes.put_aside(f"journal_{journaled[0].first}", b"".join(one.batch for one in journaled))
        if open_ones or records:
            self._file = own_file(path)
            files.flush_folder(self.folder)
            self._take_in(self._file, path, records)
        self._journal.clear()
        self._notes.opened(self._head)

    def _take_in(self, file: int, path: Path, records: list[Record]) -> None:
        """Read the open chunk; what a crash left after its last signature goes into a file next to it."""
        if (size := os.fstat(file).st_size) > 2 * MAX_CHUNK:
            raise FormatError(
                f"{path}: want at most {MAX_CHUNK} bytes and a table, got {size}", code="too_large"
            )
        data = path.read_bytes()
        completed = self._complete(data, records, path.name)
        if completed is not None:
            # Also if it is the same: the page cache may have what a flush could not write, and reported once.
            data = completed
            write_all(file, data, 0)
        offsets, last = whole_until_signature(data, path.name)
        end = offsets[-1]
        if len(data) > max(end, START):
            self._notes.put_aside(f"{self._first}_at_{end}", data[end:])
        if len(data) != end:
            os.ftruncate(file, end if end > START else 0)
        if end > START:
            if data[:START] != bytes(START):  # its table was written, and it was not renamed
                write_all(file, bytes(START), 0)
            os.fdatasync(file)
            self._offsets = array("Q", offsets)
            self._head = head_of(self._first + len(offsets) - 2, last)

    def _complete(self, data: bytes, records: list[Record], what: str) -> bytes | None:
        """An open chunk with the batches of the journal; None if they do not follow what it has."""
        if not records:
            return None
        at, last = records[0].offset, records[-1]
        offsets, entry = whole_until_signature(data[:at], what)
        head = head_of(self._first + len(offsets) - 2, entry) if entry else self._head
        if offsets[-1] != at or head != records[0].previous:  # the chunk is not the one that was written
            self._notes.put_aside(f"journal_{self._first}", b"".join(one.batch for one in records))
            return None
        written = b"".join(one.batch for one in records)
        return (data[:at] if at > START else bytes(START)) + written + data[last.offset + len(last.batch) :]


def _hold(path: Path) -> int:
    file = own_file(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise UnavailableError(
            f"{path.with_suffix('')}: another process writes this ledger",
            hint="stop the other kluis ledger up or kluis serve, or name another folder with --state",
            code="ledger_held",
        ) from None
    return file
