"""Entries of a ledger's folder as they are committed: read while a node writes, renames and cuts its files.

Entries count once a signature follows them. What follows the last signature is read again each time, so that
nothing is kept but a place, and one entry is in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from kluis import files
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.formats.ccf import tables
from kluis.formats.ccf.chunk import START, ChunkName
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import HEADER, Entry, read_header
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding.reader import Reader

MAX_ENTRY: Final = 64 << 20
PREFIX: Final = "ledger_"


class Row(NamedTuple):
    """One committed entry.

    Attributes:
        txid: its id.
        size: of it in the file, in bytes.
        tables: names of the public tables that it changed, as the file has them.
    """

    txid: TxId
    size: int
    tables: tuple[str, ...]


def words_of(folder: Path) -> list[str]:
    """The names of a ledger's files, sorted; at least one.

    Raises:
        UsageError: no folder, or none of a ledger.
    """
    hint = f"kluis serve has it in its --state; kluis ledger sample --entries 100 --out {folder} makes one"
    try:
        with os.scandir(folder) as entries:
            words = sorted(each.name for each in entries if each.name.startswith(PREFIX))
    except OSError as error:
        raise UsageError(f"{folder}: want a ledger's folder: {error.strerror}", hint=hint) from None
    if not words:
        if any((inner := folder / "ledger").glob(f"{PREFIX}*")):
            hint = f"name {inner}, which has them"
        raise UsageError(f"{folder}: want files named {PREFIX}..., got none", hint=hint)
    return words


class Follower:
    """A place in a ledger's folder.

    Args:
        folder: of the ledger.
        last: how many entries before its end are wanted first, at least.

    Attributes:
        next: seqno of the next entry.

    Raises:
        UsageError: no such folder, or it has no ledger.
    """

    def __init__(self, folder: Path, last: int) -> None:
        self._folder = folder
        names = self._names()
        if not names:
            raise UsageError(
                f"{folder}: want files of committed entries, got none", hint="kluis ledger verify"
            )
        end = names[-1].first
        early = [name.first for name in names if end - name.first >= last]
        self.next = early[-1] if early else names[0].first
        self._chunk, self._at = 0, START

    def rows(self) -> Iterator[Row]:
        """The entries that were committed since the last call.

        Raises:
            FormatError: a file is not a chunk, or an entry is not the next one.
            UnavailableError: a file cannot be read.
        """
        while (name := self._covering()) is not None:
            before = self.next
            yield from self._of(name)
            if self.next == before or name.last is None or self.next <= name.last:
                break

    def _of(self, name: ChunkName) -> Iterator[Row]:
        try:
            file = files.open_regular(self._folder / str(name), os.O_RDONLY)
        except UnavailableError:
            if os.path.lexists(self._folder / str(name)):
                raise
            return  # it was renamed between the two looks at the folder
        try:
            if name.first != self._chunk:
                self._chunk, self._at = name.first, START
            signatures = (end for end, _, signs in _walk(file, name, self._at, self.next) if signs)
            signed = max(signatures, default=self._at)
            for end, row, _ in _walk(file, name, self._at, self.next):
                if end > signed:
                    break
                self._at, self.next = end, row.txid.seqno + 1
                yield row
        finally:
            os.close(file)

    def _covering(self) -> ChunkName | None:
        names: list[ChunkName] = []
        for _ in range(2):  # one look may miss a file that is renamed meanwhile
            names = self._names()
            covering = [n for n in names if n.first <= self.next and (n.last is None or self.next <= n.last)]
            if covering:
                return covering[-1]
            if not names or names[-1].first <= self.next:
                return None
        raise FormatError(
            f"{self._folder}: want a file from entry {self.next} on, got {names[-1]}", code="truncated"
        )

    def _names(self) -> list[ChunkName]:
        names = [ChunkName.parse(word) for word in words_of(self._folder)]
        return sorted(
            (name for name in names if name.suffix in ("", "committed")),
            key=lambda name: (name.first, name.last is not None, name.committed),
        )


def _walk(file: int, name: ChunkName, at: int, seqno: int) -> Iterator[tuple[int, Row, bool]]:
    """Where each whole entry ends, the entry, and whether it is a signature; an open chunk may be torn."""
    what, size = str(name), os.fstat(file).st_size
    end = int.from_bytes(os.pread(file, START, 0), "little") or size
    while at + HEADER <= min(end, size):
        try:
            length = HEADER + read_header(Reader(os.pread(file, HEADER, at), what, at))
            if at + length > min(end, size):
                return
            if length > MAX_ENTRY:
                raise FormatError(
                    f"{what} at {at:#x}: want an entry of at most {MAX_ENTRY} bytes, got {length}",
                    code="too_large",
                )
            entry = Entry.parse(os.pread(file, length, at), what, base=at)
            writes = PublicDomain.parse(entry.public, what).writes
        except FormatError as error:
            if name.last is None and error.code != "too_large":
                return  # of a table, or of a write that a crash cut short
            raise
        if entry.seqno != seqno:
            raise FormatError(
                f"{what} at {at:#x}: want entry {seqno}, got {entry.seqno}", code="bad_encoding"
            )
        at, seqno = at + length, seqno + 1
        row = Row(TxId(entry.view, entry.seqno), length, tuple(writes))
        yield at, row, tables.SIGNATURES in writes or tables.COSE_SIGNATURES in writes
