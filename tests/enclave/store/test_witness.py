"""A witness hears of every commit before it is acknowledged, and a crash in between costs nothing."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.enclave.attester import nothing
from kluis.enclave.store import SealedStore, ocalls
from kluis.enclave.store.witness import Witnessed
from kluis.errors import EnclaveDied, EnclaveError, RemoteError
from kluis.host.proxy import EnclaveProxy
from kluis.serve.store import Database, keeping
from kluis.serve.store.keeping import KeptRecords
from kluis.tee.platform.root.counters import Counters
from kluis.testing.stale_storage import StaleStorage
from tests.databases import CountersWitness

KEY = bytes(range(32))
KEEPER = Path(__file__).parent / "keeper" / "app.py"


@pytest.fixture
def counters(tmp_path: Path) -> Counters:
    """A platform's."""
    return Counters(tmp_path / "counters")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[KeptRecords]:
    """A host's records."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        yield keeping.records(database, "test")


class Dying(CountersWitness):
    """A platform that ends before it learns of a commit."""

    def advance(self, to: Witnessed, meanwhile: Callable[[], None] = nothing) -> Witnessed:
        raise EnclaveDied("platform: hung up")


def put(store: SealedStore, value: bytes) -> None:
    store.update(lambda work: work.put("t", "k", value))


def test_an_acknowledged_commit_is_witnessed(records: KeptRecords, counters: Counters) -> None:
    """After an update the witness has its epoch, and the chain there."""
    store = SealedStore(records, KEY, witness=CountersWitness(counters))
    for at in range(1, 4):
        put(store, b"%d" % at)
        assert CountersWitness(counters).read() == (at, store._view.directory.chain)


def test_the_second_step_runs_while_the_witness_is_told(records: KeptRecords, counters: Counters) -> None:
    """Of what an update does meanwhile, the first step runs as the host writes, the third at the end."""
    told: list[str] = []

    class Telling(CountersWitness):
        def advance(self, to: Witnessed, meanwhile: Callable[[], None] = nothing) -> Witnessed:
            told.append("begun")
            meanwhile()
            told.append("ended")
            return super().advance(to)

    store = SealedStore(records, KEY, witness=Telling(counters))
    steps = [lambda at=at: told.append(at) for at in ("first", "second", "third")]
    store.update(lambda work: work.put("t", "k", b""), *steps)
    assert told == ["first", "begun", "second", "ended", "third"]


def test_a_step_that_fails_does_not_stop_the_witness(records: KeptRecords, counters: Counters) -> None:
    """The commit is witnessed, the later steps do not run, and the caller gets the error."""
    store, told = SealedStore(records, KEY, witness=CountersWitness(counters)), list[str]()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update(lambda work: work.put("t", "k", b""), fail, lambda: told.append("second"))
    assert CountersWitness(counters).read().epoch == 1
    assert told == []


@pytest.mark.parametrize("restarts", [True, False])
def test_a_crash_before_the_witness_is_told(records: KeptRecords, counters: Counters, restarts: bool) -> None:
    """The commit is there, was not acknowledged, and is witnessed by the next who finds it."""
    other = SealedStore(records, KEY, witness=CountersWitness(counters))
    put(other, b"old")
    dying = SealedStore(records, KEY, witness=Dying(counters))
    with pytest.raises(EnclaveDied):
        put(dying, b"new")
    assert counters.read("tests", bytes(32))[0] == 1
    if restarts:
        other = SealedStore(records, KEY, witness=CountersWitness(counters))
    assert other.get("t", "k") == b"new"
    assert counters.read("tests", bytes(32))[0] == 2
    put(other, b"newer")
    assert counters.read("tests", bytes(32))[0] == 3


def test_a_witness_that_comes_later(records: KeptRecords, counters: Counters) -> None:
    """A platform without a record of the store learns its whole state at once."""
    plain = SealedStore(records, KEY)
    for _ in range(3):
        put(plain, b"v")
    SealedStore(records, KEY, witness=CountersWitness(counters))
    assert counters.read("tests", bytes(32))[0] == 3


def test_an_enclaves_own_counter(enclave: Callable[..., EnclaveProxy], stale_storage: StaleStorage) -> None:
    """In an enclave the witness is the platform's counter: an older copy of the database is refused."""
    host = ocalls.serving(stale_storage.records)
    first = enclave(KEEPER, ocalls=host)
    first.put("k", b"old")
    kept = stale_storage.keep()
    first.put("k", b"new")
    stale_storage.serve(kept)
    for one in (first, enclave(KEEPER, ocalls=host)):
        with pytest.raises(RemoteError) as refused:
            one.get("k")
        assert refused.value.message == (
            "AuthenticityError: store: last commit: want epoch 2 or later, got 1"
        )


def test_a_killed_enclave_loses_nothing_that_it_told_of(
    enclave: Callable[..., EnclaveProxy], records: KeptRecords
) -> None:
    """Whenever an enclave is killed, its counter and its records agree with everything confirmed to its
    host.
    """
    told = 0
    for _ in range(4):
        one = enclave(KEEPER, ocalls=ocalls.serving(records))
        before, told = told, one.add("n")
        assert told in (before + 1, before + 2)
        killer = threading.Timer(int.from_bytes(os.urandom(1), "big") / 2000, one.kill)
        killer.start()
        with contextlib.suppress(EnclaveError):
            while True:
                told = one.add("n")
        killer.join()
    assert enclave(KEEPER, ocalls=ocalls.serving(records)).add("n") in (told + 1, told + 2)
