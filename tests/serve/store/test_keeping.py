"""A database keeps a store's commits whole, one after the other, and answers as of one moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kluis.enclave.store.records import (
    MAX_ENTRIES,
    MAX_IDS,
    MAX_LABELS,
    StoreAnswer,
    StoreCommit,
    StoreKeys,
    StoreLabel,
    StorePut,
    StoreRow,
    StoreSurvey,
)
from kluis.errors import UsageError
from kluis.serve.store import Database, keeping
from kluis.serve.store.keeping import KeptRecords


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A new database."""
    with Database(database_url) as made:
        yield made


@pytest.fixture
def records(database: Database) -> KeptRecords:
    """A new store in it."""
    return keeping.records(database, "one")


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def commit(
    epoch: int, puts: tuple[int, ...] = (), deletes: tuple[int, ...] = (), *, size: int = 3, prune: int = 0
) -> StoreCommit:
    return StoreCommit(
        epoch=epoch,
        version=bytes([epoch % 256]) * 24,
        head=b"head %d" % epoch,
        entry=b"entry %d" % epoch,
        puts=[StorePut(key(one), b"label", bytes([epoch % 256]) * size) for one in puts],
        deletes=[key(one) for one in deletes],
        prune=prune,
    )


def test_nothing_yet(records: KeptRecords) -> None:
    """A new store is at epoch 0, and has no head, no entry and no record."""
    assert records.read([], -1) == StoreAnswer(0, b"", [], [])
    assert records.read([key(1)], 0) == StoreAnswer(0, b"", [], [])
    assert records.survey(b"") == StoreSurvey([])


def test_commits_and_reads(records: KeptRecords) -> None:
    """A commit puts and deletes at once; a read gives rows, and the entries after the given epoch."""
    assert records.commit(commit(1, puts=(1, 2)))
    assert records.commit(commit(2, puts=(2, 3), deletes=(1,)))
    rows = [StoreRow(key(one), bytes([2]) * 24, bytes([2]) * 3) for one in (2, 3)]
    answer = records.read([key(one) for one in (1, 2, 3)], 0)
    assert (answer.epoch, answer.head, answer.entries) == (2, b"head 2", [b"entry 1", b"entry 2"])
    assert sorted(answer.rows, key=lambda row: row.id) == rows
    assert records.read([key(2)], 1) == StoreAnswer(2, b"head 2", [b"entry 2"], rows[:1])
    assert records.read([key(1)], 2) == StoreAnswer(2, b"", [], [])
    assert records.read([], -1) == StoreAnswer(2, b"head 2", [], [])
    assert records.survey(b"") == StoreSurvey(
        [StoreLabel(key(one), bytes([2]) * 24, b"label") for one in (2, 3)]
    )
    assert records.survey(key(2)) == StoreSurvey([StoreLabel(key(3), bytes([2]) * 24, b"label")])


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_commit_that_does_not_follow_is_not_kept(records: KeptRecords, epoch: int) -> None:
    """Only the commit after the last is kept; of another nothing is."""
    assert records.commit(commit(1, puts=(1,)))
    assert not records.commit(commit(epoch, puts=(2,), deletes=(1,)))
    assert records.read([key(1), key(2)], 1) == StoreAnswer(
        1, b"", [], [StoreRow(key(1), bytes([1]) * 24, bytes([1]) * 3)]
    )


def test_pruned_entries_are_none(records: KeptRecords) -> None:
    """A request for pruned entries gets none, and not the later ones."""
    for epoch in range(1, 5):
        assert records.commit(commit(epoch, prune=max(0, epoch - 2)))
    assert records.read([], 1) == StoreAnswer(4, b"head 4", [], [])
    assert records.read([], 2) == StoreAnswer(4, b"head 4", [b"entry 3", b"entry 4"], [])


def test_answers_are_bounded(records: KeptRecords) -> None:
    """An answer has at most so many entries, and stops after 8 MiB of rows, but has at least one."""
    for epoch in range(1, MAX_ENTRIES + 3):
        assert records.commit(commit(epoch))
    answer = records.read([], 0)
    assert answer.entries == [b"entry %d" % epoch for epoch in range(1, MAX_ENTRIES + 1)]
    large = tuple(range(20))
    assert records.commit(commit(MAX_ENTRIES + 3, puts=large, size=1 << 20))
    rows = records.read([key(one) for one in large], MAX_ENTRIES + 3).rows
    assert 8 <= len(rows) <= 9
    assert len(records.read([key(3)], MAX_ENTRIES + 3).rows) == 1


def test_many(records: KeptRecords) -> None:
    """As many records as a commit may have are kept, listed page by page, and read in the largest batch."""
    for at in range(3):
        assert records.commit(commit(at + 1, puts=tuple(range(at * 1000, at * 1000 + 1000))))
    first = records.survey(b"").labels
    assert [one.id for one in first] == [key(one) for one in range(MAX_LABELS)]
    assert len(records.survey(first[-1].id).labels) == 3000 - MAX_LABELS
    rows = records.read([key(one) for one in range(MAX_IDS)], 3).rows
    assert {row.id for row in rows} == {key(one) for one in range(MAX_IDS)}


def test_stores_are_apart(database: Database) -> None:
    """Two stores in one database see nothing of each other."""
    one, two = keeping.records(database, "one"), keeping.records(database, "two")
    assert one.commit(commit(1, puts=(1,)))
    assert two.read([key(1)], -1) == StoreAnswer(0, b"", [], [])
    assert two.commit(commit(1, puts=(1,), size=5))
    assert len(one.read([key(1)], 1).rows[0].value) == 3
    assert keeping.records(database, "one").read([], -1).epoch == 1


def test_keys(records: KeptRecords) -> None:
    """A platform's copy of the key is kept once; the first of all only if there is none."""
    here, there = key(1), key(2)
    assert records.keys(here) == StoreKeys(b"", False)
    assert records.keep_key(here, b"sealed", True)
    assert not records.keep_key(there, b"other", True)
    assert not records.keep_key(here, b"other", False)
    assert records.keys(here) == StoreKeys(b"sealed", True)
    assert records.keys(there) == StoreKeys(b"", True)
    assert records.keep_key(there, b"second", False)
    assert records.keys(there) == StoreKeys(b"second", True)


def test_one_of_many_writers_is_first(database_url: str) -> None:
    """Of many writers of one epoch, over separate connections, one gets it."""
    won: list[int] = []

    def write(me: int) -> None:
        with Database(database_url) as mine:
            store = keeping.records(mine, "one")
            for epoch in range(1, 21):
                barrier.wait(300)
                if store.commit(commit(epoch, puts=(me,))):
                    won.append(epoch)

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=write, args=(me,)) for me in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert won == list(range(1, 21))


@pytest.mark.parametrize("name", ["", "n" * 65])
def test_name(database: Database, name: str) -> None:
    """A store's name has 1 to 64 characters."""
    with pytest.raises(UsageError) as refused:
        keeping.records(database, name)
    assert refused.value.message == f"store name: want 1 to 64 characters, got {len(name)}"
