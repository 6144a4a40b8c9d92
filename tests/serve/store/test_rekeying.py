"""Re-keying at the host: all at once or not at all, and only where nobody committed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from kluis.enclave.store import SealedStore
from kluis.enclave.store.records import StoreAnswer, StoreKeys, StoreLabel, StorePut, StoreRekey, StoreRow
from kluis.errors import AuthenticityError, UnavailableError
from kluis.serve.store import Database, keeping
from kluis.serve.store.keeping import KeptRecords
from tests.serve.store.test_keeping import commit, key

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
    """A store at epoch 2, whose key is kept for two platforms, and a second store."""
    other = keeping.records(database, "other")
    assert other.commit(commit(1, puts=(1,)))
    made = keeping.records(database, "one")
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
    again = keeping.records(database, "one")
    for one in (records, again):
        rows = [StoreRow(key(each), VERSION, b"sealed") for each in (7, 8)]
        answer = one.read([key(each) for each in (1, 7, 8)], 0)
        assert (answer.epoch, answer.head, answer.entries) == (3, b"head anew", [])
        assert sorted(answer.rows, key=lambda row: row.id) == rows
        assert one.survey(b"").labels == [StoreLabel(key(each), VERSION, b"anew") for each in (7, 8)]
        assert one.keys(HERE) == StoreKeys(b"fresh", True)
        assert one.keys(THERE) == StoreKeys(b"", True)
    other = keeping.records(database, "other").read([key(1)], 1)
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
    other = keeping.records(database, "one")
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
    """An unfinished collection is kept outside the store, and dropped by the next run."""
    records.rekey_begin()
    records.rekey_put(VERSION, PUTS)
    after = keeping.records(database, "one")
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


REKEYING = """
import sys
from kluis.enclave.store import SealedStore
from kluis.enclave.store.records import StoreRekey
from kluis.serve.store import Database, records
kept = records(Database(sys.argv[1]), "one")
old, fresh = bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
store = SealedStore(kept, old)
print("begins", flush=True)
moved = store.copy_under(kept, fresh)
print("gathered", flush=True)
assert kept.rekey_finish(StoreRekey(moved.epoch, moved.head, moved.size, bytes(32), fresh))
print("ends", flush=True)
"""
"""Re-keys a store whose host keeps its key in plain: what is tried is the database."""
COUNT = 2000


def rekeying(url: str, old: bytes, fresh: bytes) -> subprocess.Popen[bytes]:
    """The command, once it has begun."""
    line = [sys.executable, "-c", REKEYING, url, old.hex(), fresh.hex()]
    process = subprocess.Popen(line, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begins\n"
    return process


def opened(database: Database, kept: KeptRecords) -> tuple[bytes, SealedStore]:
    """The store, with all that was put into it, and its kept key.

    A server may still do what a process sent before it was killed: then the key is another one afterwards.
    """
    while True:
        key = kept.keys(bytes(32)).sealed
        try:
            store = SealedStore(keeping.records(database, "one"), key)
            found = [value for _, value in store.scan("t")]
        except AuthenticityError:
            if kept.keys(bytes(32)).sealed == key:
                raise
            continue
        assert found == [b"%d" % at for at in range(COUNT)]
        return key, store


def kill_at_random(url: str, times: int) -> set[bytes]:
    """Kill the re-keying process at a random moment, repeatedly; how far it had come each time.

    Whenever it dies the store opens with the kept key, and has everything that was put into it, once.
    """
    key, seen = os.urandom(32), set()
    with Database(url) as database:
        kept = keeping.records(database, "one")
        assert kept.keep_key(bytes(32), key, True)
        store = SealedStore(kept, key)
        for first in range(0, COUNT, 1000):
            store.update(
                lambda writing, first=first: [
                    writing.put("t", f"{at:06}", b"%d" % at) for at in range(first, first + 1000)
                ]
            )
        fresh = os.urandom(32)
        with rekeying(url, key, fresh) as whole:
            assert whole.stdout is not None
            begun = time.monotonic()
            assert whole.stdout.readline() == b"gathered\n"
            gathered = time.monotonic()
            assert whole.stdout.read() == b"ends\n"
            ended = time.monotonic()
            assert whole.wait(300) == 0
        key = fresh
        for number in range(times):
            fresh = os.urandom(32)
            with rekeying(url, key, fresh) as process:
                assert process.stdout is not None
                # The end is short in comparison: every other kill hits it.
                told = process.stdout.readline() if number % 2 else b""
                if number == times - 1:  # it may come to its end, however slow the machine is by now
                    told += process.stdout.readline()
                took = ended - gathered if number % 2 else ended - begun
                threading.Event().wait(took * (number + 0.5) / times)
                process.send_signal(signal.SIGKILL)
                told += process.stdout.read()
            seen.add(told)
            found, store = opened(database, kept)
            assert found in {key, fresh}
            assert found == fresh or b"ends" not in told
            key = found
            store.update(lambda writing, number=number: writing.put("after", "kill", b"%d" % number))
        with database.transaction() as cursor:
            stores = cursor.execute("SELECT count(*) FROM stores").fetchone()[0]
        assert stores <= 2
    return seen


def test_killed_in_the_midst(database_url: str) -> None:
    """Whenever the re-keying process is killed, the store is in its old or in its new state."""
    kill_at_random(database_url, 3)


@pytest.mark.slow
def test_killed_many_times_in_the_midst(database_url: str) -> None:
    """A hundred times, at moments of every part of it."""
    assert kill_at_random(database_url, 100) == {b"", b"gathered\n", b"gathered\nends\n"}
