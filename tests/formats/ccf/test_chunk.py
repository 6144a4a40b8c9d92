"""Chunks: names, tables of offsets, and entries that are cut short."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, UsageError
from kluis.formats.ccf import chunk
from kluis.formats.ccf.chunk import Chunk, ChunkName
from kluis.formats.ccf.entry import Entry
from tests.formats.ccf import real
from tests.ledger.audit.chunks import write_chunk
from tests.strategies import PROPERTY, mutations

ENTRIES = [
    Entry(flags=flags, tag=bytes(16), seqno=seqno, view=2, public=b"p" * seqno, private=b"").encode()
    for seqno, flags in ((1, 0), (2, 0), (3, 1))
]
GOOD, OPEN = write_chunk(ENTRIES), write_chunk(ENTRIES, complete=False)
END = 8 + sum(map(len, ENTRIES))


@pytest.mark.parametrize(
    ("name", "first", "last", "suffix"),
    [
        ("ledger_1", 1, None, ""),
        ("ledger_1-2", 1, 2, ""),
        ("ledger_3-9.committed", 3, 9, "committed"),
        ("ledger_3-9.committed_prefix", 3, 9, "committed_prefix"),
        ("ledger_3.recovery", 3, None, "recovery"),
        ("ledger_3-9.recovery", 3, 9, "recovery"),
        ("ledger_3-9.ignored", 3, 9, "ignored"),
    ],
)
def test_names(name: str, first: int, last: int | None, suffix: str) -> None:
    """A name states which entries a file holds, and whether they are committed."""
    read = ChunkName.parse(name)
    assert read == ChunkName(first, last, suffix)
    assert (str(read), read.committed) == (name, suffix == "committed")


@pytest.mark.parametrize(
    "name",
    [
        "", "ledger_", "ledger_0", "ledger_01", "ledger_1-", "ledger_2-1", "ledger_1.committed", "ledger_1\n",
        "ledger_1-2.x", "Ledger_1", "ledger_" + "1" * 20,
    ],
)  # fmt: skip
def test_no_names(name: str) -> None:
    """What no chunk is called is refused."""
    with pytest.raises(FormatError):
        ChunkName.parse(name)


def test_complete_and_open() -> None:
    """A complete chunk ends with the offset of each entry; an open one has none."""
    done, begun = Chunk.parse(GOOD, "chunk"), Chunk.parse(OPEN, "chunk")
    assert done.complete
    assert not begun.complete
    assert list(done.entries()) == list(begun.entries()) == ENTRIES
    assert len(done) == 3
    assert done.entry(2) == ENTRIES[2]
    assert (int.from_bytes(GOOD[:8], "little"), GOOD[END:]) == (
        END,
        chunk.table_of([len(e) for e in ENTRIES]),
    )
    assert bytes(8) + GOOD[8:END] == OPEN
    with pytest.raises(UsageError):
        done.entry(3)


def test_torn() -> None:
    """Bytes of an entry that was not written whole are refused, or left out where that is wanted."""
    for cut in range(END - len(ENTRIES[2]) + 1, END):
        with pytest.raises(FormatError):
            Chunk.parse(OPEN[:cut], "chunk")
        assert list(Chunk.parse(OPEN[:cut], "chunk", torn=True).entries()) == ENTRIES[:2]


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"", "chunk.table at 0x0: needs 8 bytes, 0 left", "truncated"),
        (b"\x07" + bytes(7), "chunk.table at 0x0: want 8 to 8 in whole offsets, got 7", "bad_length"),
        (
            GOOD[:-1],
            f"chunk.table at 0x0: want 8 to {len(GOOD) - 1} in whole offsets, got {END}",
            "bad_length",
        ),
        (GOOD[:-4], f"chunk.table at {END:#x}: want the offsets of 3 entries, got others", "bad_encoding"),
        (
            GOOD + bytes(4),
            f"chunk.table at {END:#x}: want the offsets of 3 entries, got others",
            "bad_encoding",
        ),
        (
            GOOD[:-1] + b"\1",
            f"chunk.table at {END:#x}: want the offsets of 3 entries, got others",
            "bad_encoding",
        ),
        (OPEN[:8] + b"\2" + OPEN[9:], "chunk.version: want 1, got 2", "bad_type"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """What is no chunk is refused, with what and where."""
    with pytest.raises(FormatError) as caught:
        Chunk.parse(data, "chunk")
    assert (str(caught.value), caught.value.code) == (message, code)


def test_too_large() -> None:
    """Offsets have 32 bits."""
    with pytest.raises(UsageError):
        chunk.table_of([1 << 31, 1 << 31])


@given(mutations(GOOD, OPEN))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = Chunk.parse(data, "chunk")
    except FormatError:
        return
    assert write_chunk(list(read.entries()), complete=read.complete) == data


@real.needed
@pytest.mark.parametrize("name", real.ENTRIES)
def test_real(name: str) -> None:
    """Real files are written back to the same bytes, and hold as many entries as their names state."""
    for what, data in real.files(name):
        read, stated = Chunk.parse(data, what), ChunkName.parse(what)
        assert write_chunk(list(read.entries()), complete=read.complete) == data == read.data
        assert str(stated) == what
        assert stated.last is None or len(read) == stated.last - stated.first + 1
        assert read.complete == (stated.last is not None)
