"""The tree table: leaves held, roots of what came before."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.tree import MAX_LEAVES, TreeTable
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

GOOD = TreeTable(0b1110, (b"a" * 32, b"b" * 32), (b"2" * 32, b"4" * 32, b"8" * 32)).encode()


def test_layout() -> None:
    """Two big-endian numbers, the leaves, and one root for each bit of those flushed."""
    assert (
        bytes(7) + b"\2" + bytes(7) + b"\x0e" + b"a" * 32 + b"b" * 32 + b"2" * 32 + b"4" * 32 + b"8" * 32
        == GOOD
    )
    read = TreeTable.parse(GOOD, "tree")
    assert (read.flushed, len(read.leaves), len(read.roots), read.size) == (14, 2, 3, 16)


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (GOOD[:-1], "tree.roots at 0x50: needs 96 bytes, 95 left", "truncated"),
        (GOOD + b"\0", "tree at 0xb0: 1 bytes after the end", "trailing_data"),
        (b"\1" + GOOD[1:], f"tree: want at most {MAX_LEAVES} leaves, got {(1 << 56) + 2}", "too_large"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """What is no tree table is refused."""
    with pytest.raises(FormatError) as caught:
        TreeTable.parse(data, "tree")
    assert (str(caught.value), caught.value.code) == (message, code)


@given(mutations(GOOD))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = TreeTable.parse(data, "tree")
    except FormatError:
        return
    assert read.encode() == data


@real.needed
def test_real() -> None:
    """The table of 2.16 holds two leaves and three roots."""
    for raw in real.entries("flipflop"):
        entry = Entry.parse(raw, "entry")
        value = PublicDomain.parse(entry.public, "entry").writes.get(tables.TREE, {}).get(tables.ONLY)
        if value is not None:
            read = TreeTable.parse(value, "tree")
            assert read.encode() == value
            assert read.size == entry.seqno
            if entry.seqno == 16:
                assert (read.flushed, len(read.leaves), len(read.roots)) == (14, 2, 3)
