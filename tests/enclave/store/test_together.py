"""Instances and threads that write at once: each update sees one moment, and none is lost."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kluis.enclave.runtime.failures import CancelInterrupt
from kluis.enclave.store import SealedStore, Writing, cipher, commits, directory, view
from kluis.enclave.store import survey as surveying
from kluis.enclave.store.records import StoreCommit, StoreSurvey
from kluis.errors import UnavailableError
from kluis.serve.store import Database, keeping
from kluis.serve.store.keeping import KeptRecords

KEY = bytes(range(32))


@pytest.fixture
def records(database_url: str) -> Iterator[KeptRecords]:
    """A host's records."""
    with Database(database_url) as database:
        yield keeping.records(database, "test")


def transfer(store: SealedStore, number: str, seen: list[int]) -> None:
    """Move one unit between two accounts, whose sum never changes."""

    def work(writing: Writing) -> int:
        one, two = (int(writing.get("accounts", name) or b"0") for name in ("one", "two"))
        step = 1 if int(number[-1]) % 2 else -1
        writing.put("accounts", "one", b"%d" % (one + step))
        writing.put("accounts", "two", b"%d" % (two - step))
        writing.put("moves", number, b"")
        return one + two

    seen.append(store.update(work))


def test_each_update_sees_one_moment(records: KeptRecords) -> None:
    """No update sees half of another's, by any writer."""
    stores = [SealedStore(records, KEY) for _ in range(2)]
    seen: list[int] = []

    def run(store: SealedStore, which: int) -> None:
        for number in range(15):
            transfer(store, f"{which}-{number}", seen)

    threads = [threading.Thread(target=run, args=(one, which)) for which, one in enumerate(stores * 2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert seen == [0] * 60
    assert len(list(stores[0].scan("moves"))) == 60


class Slow:
    """A host whose commits wait for permission to go on."""

    def __init__(self, records: KeptRecords) -> None:
        self.read = records.read
        self.survey = records.survey
        self.now = records
        self.go_on = threading.Event()

    def commit(self, commit: StoreCommit) -> bool:
        self.go_on.wait(300)
        return self.now.commit(commit)


def all_at_once(records: KeptRecords, work: Callable[[Writing, int], None]) -> SealedStore:
    """Twenty threads of one instance, all of which have done their work before the first commit is kept."""
    slow = Slow(records)
    store = SealedStore(slow, KEY)
    threads = [
        threading.Thread(target=store.update, args=(lambda writing, at=at: work(writing, at),))
        for at in range(20)
    ]
    for one in threads:
        one.start()
    while len(store._committer._waiting) < 19:
        threading.Event().wait(0.01)
    slow.go_on.set()
    for one in threads:
        one.join()
    return store


def test_threads_share_commits(records: KeptRecords) -> None:
    """Updates that do not touch each other are kept together: fewer commits than updates."""
    store = all_at_once(records, lambda writing, at: writing.put("t", str(at), b"v"))
    assert store.epoch == 2
    assert len(list(SealedStore(records, KEY).scan("t"))) == 20


def test_threads_that_touch_each_other_do_not_share(records: KeptRecords) -> None:
    """Of those who wait together, and read what another of them changes, all but the first run again."""

    def add(writing: Writing, _: int) -> None:
        writing.put("t", "sum", b"%d" % (int(writing.get("t", "sum") or b"0") + 1))

    def collect(writing: Writing, at: int) -> None:
        writing.put("u", str(at), b"%d" % len(list(writing.scan("u"))))

    assert all_at_once(records, add).get("t", "sum") == b"20"
    counts = [int(value) for _, value in all_at_once(records, collect).scan("u")]
    assert sorted(counts) == list(range(20))


def test_one_that_fails_fails_alone(records: KeptRecords) -> None:
    """A commit of several that the host cannot keep fails for each of them."""

    class Full:
        """A host whose disk is full."""

        read = records.read
        survey = records.survey

        def commit(self, commit: StoreCommit) -> bool:
            raise UnavailableError("database: database or disk is full")

    store = SealedStore(Full(), KEY)
    with pytest.raises(UnavailableError) as failed:
        store.update(lambda work: work.put("t", "k", b""))
    assert failed.value.message == "database: database or disk is full"
    assert store.get("t", "k") is None


def test_an_instance_too_far_behind_starts_again(
    records: KeptRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has missed more than the host keeps of the journal reads all records again."""
    for module in (commits, directory, surveying, view):
        monkeypatch.setattr(module, "KEPT_EPOCHS", 4)
    idle, busy = SealedStore(records, KEY), SealedStore(records, KEY)
    for at in range(8):
        busy.update(lambda work, at=at: work.put("t", str(at % 6), b"%d" % at, index=f"i{at % 2}"))
    busy.update(lambda work: work.delete("t", "2"))
    assert records.read([], 4).entries == []
    assert len(records.read([], 5).entries) == 4
    assert list(idle.scan("t", "i0")) == [("0", b"6"), ("4", b"4")]
    assert idle.get("t", "2") is None
    assert idle.epoch == 9
    idle.update(lambda work: work.put("t", "2", b"again"))
    assert busy.get("t", "2") == b"again"


def test_a_change_cut_short_is_learnt_again(records: KeptRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is taken back in the middle of following the journal leaves nothing half-known."""
    idle, busy = SealedStore(records, KEY), SealedStore(records, KEY)
    busy.update(lambda work: [work.put("t", key, b"v") for key in "abc"])
    member, calls = cipher.Cipher.member, []

    def interrupted(self: cipher.Cipher, *arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) == 2:  # in the middle of entering the second record
            raise CancelInterrupt
        return member(self, *arguments)

    monkeypatch.setattr(cipher.Cipher, "member", interrupted)
    with pytest.raises(CancelInterrupt):
        idle.get("t", "a")
    assert [key for key, _ in idle.scan("t")] == ["a", "b", "c"]
    idle.update(lambda work: work.delete("t", "b"))
    assert [key for key, _ in SealedStore(records, KEY).scan("t")] == ["a", "c"]


def test_instances_start_while_others_write(records: KeptRecords) -> None:
    """A survey that is overtaken by commits on every page still ends in the newest state."""
    busy = SealedStore(records, KEY)
    busy.update(lambda work: [work.put("t", str(at), b"0", index="i") for at in range(40)])
    numbers = itertools.count(1)

    class Overtaken:
        """A host that shows three records at a time, while another instance puts, moves and deletes."""

        read = records.read
        commit = records.commit

        def survey(self, after: bytes) -> StoreSurvey:
            number = next(numbers)
            labels = records.survey(after).labels[:3]
            busy.update(lambda work: work.put("t", str(number % 40), b"%d" % number, index=f"i{number % 3}"))
            busy.update(lambda work: work.delete("t", str(number * 7 % 40)))
            busy.update(lambda work: work.put("t", f"new {number}", b"", index="i"))
            return StoreSurvey(labels)

    for _ in range(3):
        started = SealedStore(Overtaken(), KEY)
        for index in ("", "i", "i0", "i1", "i2"):
            assert list(started.scan("t", index)) == list(busy.scan("t", index))
        started.update(lambda work: work.put("t", "last", b""))


WRITER = """
import sys
from kluis.enclave.store import SealedStore
from kluis.serve.store import Database, records
store = SealedStore(records(Database(sys.argv[1]), "test"), bytes(range(32)))
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    number += 1
    store.update(lambda work: (work.put("t", "last", b"%d" % number), work.put("t", f"{number}", b"v")))
    print(number, flush=True)
"""


def kill_at_random(url: str, times: int) -> None:
    """Kill a writer at some moment of its work, repeatedly; no confirmed update is lost."""
    last = 0
    with Database(url) as database:
        for _ in range(times):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, url, str(last)], stdout=subprocess.PIPE)
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            threading.Event().wait(int.from_bytes(os.urandom(1), "big") / 4000)
            writer.send_signal(signal.SIGKILL)
            told = [
                int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
            ]
            writer.wait()
            writer.stdout.close()
            store = SealedStore(keeping.records(database, "test"), KEY)
            kept = int(store.get("t", "last") or b"0")
            assert max(told, default=last) <= kept <= max(told, default=last) + 1
            last = kept
        keys = {key for key, _ in store.scan("t")}
        assert keys == {"last", *(str(number) for number in range(1, last + 1))} - (
            {"last"} if not last else set()
        )


def test_a_killed_writer_loses_nothing_that_it_told_of(database_url: str) -> None:
    """Whenever a writer dies, all confirmed updates are there, and an update is there whole or not."""
    kill_at_random(database_url, 5)


@pytest.mark.slow
def test_writers_killed_many_times(database_url: str) -> None:
    """Two hundred times."""
    kill_at_random(database_url, 200)
