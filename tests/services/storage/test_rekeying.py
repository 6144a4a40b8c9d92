"""Re-keying at the host: all at once or not at all, and only where nobody committed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kluis.enclave.store.records import StoreAnswer, StoreKeys, StoreLabel, StorePut, StoreRekey, StoreRow
from kluis.errors import UnavailableError
from kluis.services.storage import Database
from kluis.services.storage.keeping import KeptRecords
from tests.services.storage.test_keeping import commit, key

VERSION = b"\5" * 24
PUTS = [StorePut(key(one), b"anew", b"sealed") for one in (7, 8)]
HERE, THERE = b"\1" * 32, b"\2" * 32
LAST = StoreRekey(3, b"head anew", 2, HERE, b"fresh")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A new database."""
    with Database(database_url) as made:
        yield made


@pytest.fixture
def records(database: Database) -> KeptRecords:
    """A store at epoch 2, whose key is kept for two platforms; another one beside it."""
    other = database.records("other")
    assert other.commit(commit(1, puts=(1,)))
    made = database.records("one")
    assert made.commit(commit(1, puts=(1, 2)))
    assert made.commit(commit(2, puts=(3,)))
    for platform in (HERE, THERE):
        assert made.keep_key(platform, b"old", False)
    return made


def as_it_was(records: KeptRecords) -> bool:
    """Whether nothing changed."""
    answer = records.read([key(one) for one in (1, 2, 3, 7, 8)], 0)
    kept = [records.keys(one).sealed for one in (HERE, THERE)]
    return (answer.epoch, len(answer.entries), len(answer.rows), kept) == (2, 2, 3, [b"old", b"old"])


def test_in_its_place(database: Database, records: KeptRecords) -> None:
    """Records, head and key are the new ones; journal and every copy of the old key are gone."""
    records.rekey_begin()
    records.rekey_put(VERSION, PUTS[:1])
    records.rekey_put(VERSION, [])
    records.rekey_put(VERSION, PUTS[1:])
    assert as_it_was(records)
    assert records.rekey_finish(LAST)
    again = database.records("one")
    for one in (records, again):
        rows = [StoreRow(key(each), VERSION, b"sealed") for each in (7, 8)]
        answer = one.read([key(each) for each in (1, 7, 8)], 0)
        assert (answer.epoch, answer.head, answer.entries) == (3, b"head anew", [])
        assert sorted(answer.rows, key=lambda row: row.id) == rows
        assert one.survey(b"").labels == [StoreLabel(key(each), VERSION, b"anew") for each in (7, 8)]
        assert one.keys(HERE) == StoreKeys(b"fresh", True)
        assert one.keys(THERE) == StoreKeys(b"", True)
    other = database.records("other").read([key(1)], 1)
    assert other == StoreAnswer(1, b"", [], [StoreRow(key(1), b"\1" * 24, b"\1" * 3)])
    assert records.commit(commit(4, puts=(1,)))


def test_somebody_was_first(records: KeptRecords) -> None:
    """A commit meanwhile is kept, and the re-keying is not."""
    records.rekey_begin()
    records.rekey_put(VERSION, PUTS)
    assert records.commit(commit(3))
    assert not records.rekey_finish(LAST)
    assert records.read([key(1), key(7)], 3).rows == [StoreRow(key(1), b"\1" * 24, b"\1" * 3)]
    assert records.keys(HERE).sealed == b"old"


def test_two_at_once(database: Database, records: KeptRecords) -> None:
    """Who begins last goes on; the other one's end changes nothing."""
    other = database.records("one")
    records.rekey_begin()
    records.rekey_put(VERSION, PUTS)
    other.rekey_begin()
    other.rekey_put(VERSION, PUTS)
    with pytest.raises(UnavailableError, match="want one that has begun, got none, or another since"):
        records.rekey_finish(LAST)
    with pytest.raises(UnavailableError):
        records.rekey_put(VERSION, PUTS)
    with pytest.raises(UnavailableError, match="want 3 records, got 2"):
        other.rekey_finish(StoreRekey(3, b"head anew", 3, HERE, b"fresh"))
    assert as_it_was(records)
    assert other.rekey_finish(LAST)


def test_a_crash_before_the_end(database: Database, records: KeptRecords) -> None:
    """What was gathered and not finished is beside the store, and forgotten by the next who begins."""
    records.rekey_begin()
    records.rekey_put(VERSION, PUTS)
    after = database.records("one")
    assert as_it_was(after)
    with pytest.raises(UnavailableError, match="want one that has begun"):
        after.rekey_finish(LAST)
    after.rekey_begin()
    with database.transaction() as cursor:
        count = cursor.execute("SELECT count(*) FROM records").fetchone()[0]
        stores = cursor.execute("SELECT count(*) FROM stores").fetchone()[0]
    assert (count, stores) == (4, 3)


@pytest.mark.parametrize("step", ["move", "keep_key", "forget_store"])
def test_a_crash_in_the_end(records: KeptRecords, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the last step breaks off, the database has none of it."""
    records.rekey_begin()
    records.rekey_put(VERSION, PUTS)
    made = records.database.statements
    with monkeypatch.context() as broken:
        broken.setattr(getattr(made, step), "text", "SELECT nothing FROM nowhere")
        with pytest.raises(UnavailableError):
            records.rekey_finish(LAST)
    assert as_it_was(records)
    assert records.rekey_finish(LAST)
