"""Snapshots: tables in padded pairs, and the receipt after them."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.ccf import entry
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.snapshot import Snapshot, SnapshotName, Table, Value
from kluis.hashes import sha256
from tests.formats.ccf.test_receipt import MADE as RECEIPT
from tests.strategies import PROPERTY, mutations


def u64(number: int) -> bytes:
    """Eight bytes."""
    return number.to_bytes(8, "little", signed=number < 0)


def padded(data: bytes) -> bytes:
    """A size, bytes, and zeros to a multiple of eight."""
    return u64(len(data)) + data + bytes(-len(data) % 8)


def table(name: bytes, *pairs: tuple[bytes, int, bytes]) -> bytes:
    """A table of keys, versions and values."""
    body = b"".join(padded(key) + padded(u64(version) + value) for key, version, value in pairs)
    return u64(len(name)) + name + u64(7) + u64(len(body)) + body


HEAD = b"\1" + u64(14) + bytes(8) + u64(32) + b"r" * 32 + u64(16) + u64(0) + u64(1)
TABLES = table(b"public:a", (b"key", 3, b"value"), (b"gone", -4, b""), (b"", 5, b"")) + table(b"public:b")


def file(public: bytes, rest: bytes = b"") -> bytes:
    """A snapshot's file."""
    made = Entry(
        tag=bytes(16), seqno=14, view=entry.SNAPSHOT_VIEW, public=public, private=b"private"
    ).encode()
    return made + rest


GOOD = file(HEAD + TABLES, RECEIPT.encode())


def test_read() -> None:
    """Tables, views, root and receipt; a key that was removed has no value."""
    read = Snapshot.parse(GOOD, "snapshot")
    assert (read.seqno, read.root, read.views) == (14, b"r" * 32, (0, 1))
    rows = {b"key": Value(3, b"value"), b"gone": Value(-4, b""), b"": Value(5, b"")}
    assert read.tables == {"public:a": Table(7, rows), "public:b": Table(7, {})}
    table = read.tables["public:a"]
    assert [table.get(key) for key in (b"key", b"gone", b"", b"x")] == [b"value", None, b"", None]
    assert read.receipt == RECEIPT
    assert read.entry + RECEIPT.encode() == read.encode() == GOOD
    assert read.digest == sha256(read.entry)
    assert Snapshot.parse(file(HEAD), "snapshot").receipt is None


def test_names() -> None:
    """A name states the entry, and the entry of the evidence."""
    for name in ("snapshot_14_15", "snapshot_14_15.committed"):
        read = SnapshotName.parse(name)
        assert (str(read), read.seqno, read.evidence) == (name, 14, 15)
        assert read.committed == name.endswith("committed")
    for name in ("snapshot_14", "snapshot_0_1", "ledger_1", "snapshot_1_2.x"):
        with pytest.raises(FormatError):
            SnapshotName.parse(name)


PAIR = u64(3) + b"key"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD[:40], "snapshot at 0x8: needs "),
        (GOOD[:32] + bytes(4) + GOOD[36:], "snapshot.view at 0x20: is 0"),
        (file(b"\4" + HEAD[1:]), "snapshot.type at 0x2c: want 1, got 4"),
        (file(HEAD[:17] + u64(31) + HEAD[25:]), "snapshot.public domain.hash: want 32 bytes, got 31"),
        (file(HEAD[:57] + u64(15) + HEAD[65:]), "snapshot.views: want whole numbers, got 15 bytes"),
        (file(HEAD + table(b"a") * 2), "snapshot.public domain.a: occurs twice"),
        (
            file(HEAD + table(b"a", (b"k", 1, b""), (b"k", 1, b""))),
            "snapshot.public domain.a: a key occurs twice",
        ),
        (
            file(HEAD + u64(1) + b"a" + u64(0) + u64(16) + PAIR + b"\0\0\0\0\1"),
            "snapshot.public domain.a.padding at 0xa5: must be zero, found 0x01",
        ),
        (
            file(HEAD + u64(1) + b"a" + u64(0) + u64(24) + padded(b"k") + u64(0)),
            "snapshot.public domain.a.value: want a version before it",
        ),
        (file(HEAD, b"x"), "snapshot.receipt at 0x0: is not JSON"),
        (file(HEAD, b"\xd2x"), "snapshot.receipt"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    """What is no snapshot is refused, with what and where."""
    with pytest.raises(FormatError) as caught:
        Snapshot.parse(data, "snapshot")
    assert str(caught.value).startswith(message)


@given(mutations(GOOD))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = Snapshot.parse(data, "snapshot")
    except FormatError:
        return
    assert read.encode() == data
