"""A ledger's files: their names, and chunks of entries with a table of where each begins.

    0   u64  offset of the table; 0 while the chunk is open
    8        entries, back to back
        u32  absolute offset, for each entry

Spec: CCF, "Ledger", "File Layout"; CCF, ``src/host/ledger.h``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Self

from kluis.errors import FormatError, UsageError
from kluis.formats.ccf.entry import HEADER, read_header
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

MAX_CHUNK: Final = (1 << 32) - 1
START: Final = 8
_NAME: Final = re.compile(
    r"ledger_([1-9][0-9]{0,18})(?:-([1-9][0-9]{0,18}))?"
    r"(?:\.(committed|recovery|ignored|committed_prefix))?"
)


@frozen
class ChunkName:
    """What a chunk's name states.

    Attributes:
        first: seqno of its first entry.
        last: of its last; None while it is open.
        suffix: ``committed``, ``recovery``, ``ignored``, ``committed_prefix``, or empty.
    """

    first: int
    last: int | None = None
    suffix: str = ""

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read the name of a file.

        Raises:
            FormatError: no chunk has this name.
        """
        match = _NAME.fullmatch(name)
        first, last = (int(match[1]), int(match[2]) if match[2] else None) if match else (0, None)
        suffix = (match[3] or "") if match else ""
        if match is None or (last is None and suffix.startswith("committed")):
            raise FormatError(f"{name!a:.80}: no chunk of a ledger has this name", code="bad_encoding")
        if last is not None and last < first:
            raise FormatError(
                f"{name}: want a last seqno of {first} or more, got {last}", code="bad_encoding"
            )
        return cls(first, last, suffix)

    @property
    def committed(self) -> bool:
        """Whether the file states that all of it is committed."""
        return self.suffix == "committed"

    def __str__(self) -> str:
        last = "" if self.last is None else f"-{self.last}"
        return f"ledger_{self.first}{last}{'.' if self.suffix else ''}{self.suffix}"


@frozen
class Chunk:
    """A chunk, its entries not read further than their sizes.

    Attributes:
        data: the whole file.
        offsets: of each entry in it, and where the last one ends.
        complete: whether it has its table.
    """

    data: bytes
    offsets: tuple[int, ...]
    complete: bool

    @classmethod
    def parse(cls, data: bytes, what: str, *, torn: bool = False) -> Self:
        """Read one file.

        Args:
            data: all of it.
            what: its name, for messages.
            torn: whether an entry cut short at the end of an open chunk is left out; else it is refused.

        Raises:
            FormatError: anything else than a chunk.
        """
        if len(data) > MAX_CHUNK:
            raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_CHUNK}", code="too_large")
        table = Reader(data, what).u64("table")
        if not table:
            return cls(data, _walk(data, len(data), what, torn=torn), False)
        if not START <= table <= len(data) or (len(data) - table) % 4:
            raise FormatError(
                f"{what}.table at 0x0: want {START} to {len(data)} in whole offsets, got {table}",
                code="bad_length",
            )
        offsets = _walk(data, table, what, torn=False)
        want = b"".join([offset.to_bytes(4, "little") for offset in offsets[:-1]])
        if data[table:] != want:
            raise FormatError(
                f"{what}.table at {table:#x}: want the offsets of {len(offsets) - 1} entries, got others",
                code="bad_encoding",
            )
        return cls(data, offsets, True)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def entry(self, index: int) -> bytes:
        """The bytes of an entry, by its position in the chunk."""
        if not 0 <= index < len(self):
            raise UsageError(f"chunk: want entry 0 to {len(self) - 1}, got {index}")
        return self.data[self.offsets[index] : self.offsets[index + 1]]

    def entries(self) -> Iterator[bytes]:
        """The bytes of each entry."""
        offsets = self.offsets
        for index in range(len(self)):
            yield self.data[offsets[index] : offsets[index + 1]]

    def encode(self) -> bytes:
        """Write the file again."""
        return self.data


def _walk(data: bytes, end: int, what: str, *, torn: bool) -> tuple[int, ...]:
    offsets = [START]
    at = START
    while at < end:
        # The commonest header without a call: version 1, no flags, and a size within bounds.
        size = int.from_bytes(data[at + 2 : at + 8], "little")
        if data[at : at + 2] != b"\x01\x00" or not 36 <= size <= 1 << 30 or at + 8 > end:
            head = Reader(data[at : min(at + HEADER, end)], what, at)
            if torn and head.left < HEADER:
                break
            size = read_header(head)
        after = at + HEADER + size
        if after > end:
            if torn:
                break
            raise FormatError(
                f"{what} at {at:#x}: needs {after - at} bytes, {end - at} left", code="truncated"
            )
        offsets.append(after)
        at = after
    return tuple(offsets)


def table_of(sizes: Sequence[int]) -> bytes:
    """The table of a chunk whose entries have these sizes in bytes, headers included.

    Raises:
        UsageError: they do not fit a chunk.
    """
    at, out = START, bytearray()
    for size in sizes:
        out += at.to_bytes(4, "little")
        at += size
        if at > MAX_CHUNK:
            raise UsageError(f"chunk: want at most {MAX_CHUNK} bytes, got more")
    return bytes(out)
