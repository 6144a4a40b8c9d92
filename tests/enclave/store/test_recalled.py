"""What an update reads without asking the host is never old in what it keeps, returns or raises."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.enclave.store import SealedStore, Writing, row_cache
from kluis.enclave.store.directory import Name
from kluis.enclave.store.records import StoreAnswer, StoreCommit
from kluis.enclave.store.row_cache import Remembered
from kluis.errors import AuthenticityError
from kluis.serve.store import Database, keeping
from kluis.serve.store.keeping import KeptRecords
from kluis.tee.platform.root.counters import Counters
from tests.databases import CountersWitness

KEY = bytes(range(32))


class Counting:
    """Records that count their requests, and are written while the caller continues.

    Attributes:
        ``asked``: the requests, by name.
    """

    def __init__(self, records: KeptRecords) -> None:
        self._records = records
        self.survey = records.survey
        self.asked: list[str] = []

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        self.asked.append("read")
        return self._records.read(ids, known)

    def commit(self, commit: StoreCommit) -> bool:
        return self.begin_commit(commit)()

    def begin_commit(self, commit: StoreCommit) -> Callable[[], bool]:
        self.asked.append("begun")

        def ended() -> bool:
            self.asked.append("ended")
            return self._records.commit(commit)

        return ended


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Counting]:
    """A host's records."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        yield Counting(keeping.records(database, "test"))


def add(writing: Writing) -> int:
    """Count up."""
    count = int(writing.get("t", "count") or b"0") + 1
    writing.put("t", "count", b"%d" % count)
    return count


def test_what_was_seen_is_not_asked_for(records: Counting) -> None:
    """An update of what this instance wrote or read costs one request, and what it needs meanwhile none."""
    store = SealedStore(records, KEY)
    assert store.update(add) == 1
    records.asked.clear()
    steps = [lambda at=at: records.asked.append(at) for at in ("first", "second", "third")]
    assert store.update(add, *steps) == 2
    assert records.asked == ["begun", "first", "ended", "second", "third"]
    records.asked.clear()
    assert store.get("t", "count") == b"2"
    assert records.asked == ["read"]


def test_another_instance_was_first(records: Counting) -> None:
    """What another has written since is found out by the commit, and the work runs on that."""
    one, two = SealedStore(records, KEY), SealedStore(records, KEY)
    assert two.update(add) == 1
    for count in range(2, 8, 2):
        assert one.update(add) == count
        assert two.update(add) == count + 1


def test_an_old_value_is_not_returned(records: Counting) -> None:
    """An update that changes nothing returns what is there, not what was."""
    one, two = SealedStore(records, KEY), SealedStore(records, KEY)
    two.update(add)
    one.update(add)
    seen: list[bytes | None] = []

    def look(writing: Writing) -> bytes | None:
        seen.append(writing.get("t", "count"))
        return seen[-1]

    assert two.update(look) == b"2"
    assert seen == [b"1", b"2"]


def test_nothing_is_raised_for_an_old_value(records: Counting) -> None:
    """A value refused because it has changed meanwhile is requested again."""
    one, two = SealedStore(records, KEY), SealedStore(records, KEY)
    two.update(add)
    one.update(add)

    def refuse(writing: Writing) -> str:
        count = writing.get("t", "count")
        if count != b"2":
            raise ValueError(count)
        return "well"

    assert two.update(refuse) == "well"
    one.update(add)
    with pytest.raises(ValueError, match="3"):
        two.update(refuse)


def test_a_forking_host_is_found_out(tmp_path: Path) -> None:
    """A host that keeps two instances apart takes a commit of each; the witness does not."""
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    witness = CountersWitness(Counters(tmp_path / "counters"))
    with Database(f"sqlite:///{path}") as database:
        SealedStore(keeping.records(database, "test"), KEY, witness=witness).update(add)
    shutil.copy(path, copy)
    with Database(f"sqlite:///{path}") as first, Database(f"sqlite:///{copy}") as second:
        one, two = (
            SealedStore(keeping.records(database, "test"), KEY, witness=witness)
            for database in (first, second)
        )
        assert two.get("t", "count") == b"1"
        assert one.update(add) == 2
        with pytest.raises(AuthenticityError):
            two.update(add)


def test_what_fails_meanwhile_is_told_once_all_is_kept(records: Counting) -> None:
    """The changes are kept, and the caller gets the other error."""
    store = SealedStore(records, KEY)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update(add, fail)
    assert store.get("t", "count") == b"1"


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least used are dropped, large ones are not kept, and a version other than the directory's is
    ignored.
    """
    monkeypatch.setattr(row_cache, "MOST_BYTES", 3 * (100 + row_cache.ROW_BYTES))
    rows = Remembered()
    names = [Name("t", str(at)) for at in range(4)]
    for name in names[:3]:
        rows.keep(name, b"v", bytes(100))
    assert rows.row(names[0], b"v") == bytes(100)
    rows.keep(names[3], b"v", bytes(100))
    assert [rows.row(name, b"v") is None for name in names] == [False, True, False, False]
    assert rows.row(names[3], b"w") is None
    rows.keep(names[0], b"w", bytes(row_cache.MOST_ROW + 1))
    assert rows.row(names[0], b"w") is None
    for name in names:
        rows.forget(name)
    assert rows._bytes == 0
