"""Leases: few requests to the host, and no reader behind a writer whose change was confirmed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from kluis.enclave.store import SealedStore
from kluis.enclave.store.keys import lease
from kluis.enclave.store.keys.lease import LEASE_SECONDS, Leases
from kluis.serve.store import keeping
from kluis.serve.store.database import Database

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
            return Counted(keeping.records(database, "one"), KEY)

        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the leases' clock shows, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_record_is_asked_for_once_a_lease(store: Stores, clock: list[float]) -> None:
    """Many reads within a lease request a record once from the host; the next lease requests it again."""
    kept = store()
    leases = Leases(kept)
    for _ in range(10):
        assert leases.get("t", "k") is None
    clock[0] += LEASE_SECONDS * 0.99
    leases.get("t", "k")
    assert kept.reads == 1
    clock[0] += LEASE_SECONDS * 0.02
    leases.get("t", "k")
    assert kept.reads == 2


def test_who_was_told_that_a_change_is_kept_reads_it_everywhere(store: Stores) -> None:
    """Readers of another instance, busy all the time, have seen each change once its writer got the
    confirmation.
    """
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


def test_without_the_wait_a_reader_is_behind(store: Stores, clock: list[float]) -> None:
    """The wait is what makes it so: a reader with a lease has the old record right after a change."""
    writer, reader = store(), Leases(store())
    assert reader.get("t", "k") is None
    writer.update(lambda w: w.put("t", "k", b"1"))
    assert reader.get("t", "k") is None
    clock[0] += LEASE_SECONDS
    assert reader.get("t", "k") == b"1"


def test_the_wait_outlasts_every_lease(store: Stores) -> None:
    """To settle takes longer than a lease of a record that was read just before."""
    began = time.monotonic()
    Leases(store()).settle()
    assert time.monotonic() - began > LEASE_SECONDS
