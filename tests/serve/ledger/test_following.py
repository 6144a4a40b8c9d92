"""A ledger's folder, followed while its log is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.formats.ccf import tables
from kluis.serve.ledger.following import Follower
from kluis.serve.ledger.log import LedgerLog
from tests.serve.ledger.batches import Writer


def _append(log: LedgerLog, writer: Writer, count: int) -> None:
    assert log.append(log.head(), writer.batch(count).entries) == "ok"


def test_entries_come_once_each_over_chunks(tmp_path: Path) -> None:
    """In order, in whatever files they are by then; the last of each batch is its signature."""
    writer = Writer(chunk_size=4000)
    with LedgerLog(tmp_path) as log:
        _append(log, writer, 3)
        follower = Follower(tmp_path, 0)
        rows = list(follower.rows())
        assert list(follower.rows()) == []
        for _ in range(12):
            _append(log, writer, 3)
            rows += follower.rows()
        _append(log, writer, 3)
        _append(log, writer, 3)
        rows += follower.rows()
        assert list(follower.rows()) == []
    assert [row.txid.seqno for row in rows] == list(range(1, 61))
    assert {row.txid.view for row in rows} == {2}
    for row in rows:
        assert (tables.SIGNATURES in row.tables) == (row.txid.seqno % 4 == 0)
        assert row.size > 100
    chunks = [path for path in tmp_path.iterdir() if path.name.endswith(".committed")]
    assert len(chunks) >= 3
    begun = Follower(tmp_path, 10)
    first = begun.next
    assert 1 < first <= 51
    assert [row.txid.seqno for row in begun.rows()] == list(range(first, 61))


def test_what_is_not_signed_waits(tmp_path: Path) -> None:
    """No prefix of a batch is shown; the whole batch is. Bytes that are no entry are not shown."""
    writer, name = Writer(), tmp_path / "ledger_1"
    first, second = writer.batch(2).entries, writer.batch(2).entries
    name.write_bytes(bytes(8) + first)
    follower = Follower(tmp_path, 0)
    assert [row.txid.seqno for row in follower.rows()] == [1, 2, 3]
    for cut in (1, 7, 8, 50, len(second) // 2, len(second) - 1):
        name.write_bytes(bytes(8) + first + second[:cut])
        assert list(follower.rows()) == []
    name.write_bytes(bytes(8) + first + b"\x08\0\0\0" * 20)
    assert list(follower.rows()) == []
    name.write_bytes(bytes(8) + first + second)
    assert [row.txid.seqno for row in follower.rows()] == [4, 5, 6]


def test_what_cannot_be_followed(tmp_path: Path) -> None:
    """No ledger, a missing chunk, another ledger's entries, and a link are refused."""
    with pytest.raises(UsageError, match=r"want files named ledger_\.\.\., got none"):
        Follower(tmp_path, 0)
    with pytest.raises(UsageError, match="want a ledger's folder"):
        Follower(tmp_path / "x", 0)
    writer = Writer()
    (tmp_path / "ledger_1").write_bytes(bytes(8) + writer.batch(2).entries)
    follower = Follower(tmp_path, 0)
    assert len(list(follower.rows())) == 3
    (tmp_path / "ledger_1").rename(tmp_path / "ledger_1-3.committed")
    (tmp_path / "ledger_9").write_bytes(bytes(8))
    with pytest.raises(FormatError, match="want a file from entry 4 on, got ledger_9"):
        list(follower.rows())
    (tmp_path / "ledger_9").unlink()
    (tmp_path / "ledger_4").write_bytes(bytes(8) + Writer().batch(2).entries)
    with pytest.raises(FormatError, match="ledger_4 at 0x8: want entry 4, got 1"):
        list(follower.rows())
    (tmp_path / "ledger_4").unlink()
    (tmp_path / "ledger_4").symlink_to(tmp_path / "ledger_1-3.committed")
    with pytest.raises(UnavailableError, match="ledger_4"):
        list(Follower(tmp_path, 100).rows())
