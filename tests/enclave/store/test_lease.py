"""Leases: few questions to the host, and no reader behind a writer who was told that it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kluis.enclave.store import SealedStore
from kluis.enclave.store.lease import LEASE_SECONDS, Leases
from kluis.services.storage.database import Database

KEY = bytes(range(32))


class Counted(SealedStore):
    """A store that counts its reads."""

    reads = 0

    def get(self, table: str, key: str) -> bytes | None:
        """Count, and read."""
        self.reads += 1
        return super().get(table, key)


Stores = Callable[[], Counted]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Stores]:
    """Makes an instance's store, on a database that others have too."""
    with ExitStack() as opened:

        def made() -> Counted:
            database = opened.enter_context(Database(f"sqlite:///{tmp_path / 'store.db'}"))
            return Counted(database.records("one"), KEY)

        yield made


def test_a_record_is_asked_for_once_a_lease(store: Stores) -> None:
    """Many reads within a lease ask the host once; the next lease asks again."""
    kept = store()
    leases = Leases(kept)

    def within_a_lease() -> bool:
        kept.reads, began = 0, time.monotonic()
        for _ in range(10):
            assert leases.get("t", "k") is None
        return time.monotonic() - began < LEASE_SECONDS

    in_time(within_a_lease)
    assert kept.reads == 1
    time.sleep(LEASE_SECONDS)
    leases.get("t", "k")
    assert kept.reads == 2


def in_time(attempt: Callable[[], bool]) -> None:
    """Try until a machine that has other work, too, was quick enough to see what a lease does."""
    for _ in range(200):
        if attempt():
            return
        time.sleep(LEASE_SECONDS)
    raise AssertionError(f"want a machine that reads and writes in {LEASE_SECONDS} s, now and then")


def test_who_was_told_that_a_change_is_kept_reads_it_everywhere(store: Stores) -> None:
    """Readers of another instance, busy all the time, have seen each change once its writer was told."""
    writer, reader = store(), Leases(store())
    told, stop, behind = [0], threading.Event(), list[tuple[int, bytes | None]]()

    def read() -> None:
        while not stop.is_set():
            least = told[0]
            value = reader.get("t", "k")
            if int(value or b"0") < least:
                behind.append((least, value))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for one in threads:
        one.start()
    leases = Leases(writer)
    for number in range(1, 16):
        writer.update(lambda w, n=number: w.put("t", "k", str(n).encode()))  # type: ignore[misc]  # bound at once
        leases.settle()
        told[0] = number
    stop.set()
    for one in threads:
        one.join()
    assert behind == []


def test_without_the_wait_a_reader_is_behind(store: Stores) -> None:
    """The wait is what makes it so: a reader with a lease has the old record right after a change."""
    writer, reader = store(), Leases(store())
    number = 0

    def behind() -> bool:
        nonlocal number
        number += 1
        began, before = time.monotonic(), reader.get("t", "k")
        writer.update(lambda w: w.put("t", "k", str(number).encode()))
        after = reader.get("t", "k")
        if time.monotonic() - began >= LEASE_SECONDS:
            return False
        assert after == before
        return True

    in_time(behind)
    Leases(writer).settle()
    assert reader.get("t", "k") == str(number).encode()
