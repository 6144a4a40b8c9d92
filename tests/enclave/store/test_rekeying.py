"""A store under another key: all that was there is there, and the old key opens nothing that is taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from kluis.enclave.store import SealedStore, ocalls
from kluis.enclave.store.records import StoreRekey
from kluis.enclave.store.transaction import FORMER_KEYS
from kluis.errors import RemoteError, UsageError
from kluis.host.proxy import EnclaveProxy
from kluis.serve.store import Database, keeping
from kluis.serve.store.keeping import KeptRecords
from kluis.testing.rehearsal import RehearsalPlatform
from kluis.testing.stale_storage import StaleStorage, SwitchedRecords
from tests.enclave.store.keys.test_custody import hand_over

KEEPER = Path(__file__).parent / "keeper" / "app.py"
Launch = Callable[..., EnclaveProxy]
REKEYED = "AuthenticityError: store: was sealed under another key since"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[KeptRecords]:
    """The host's database."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        yield keeping.records(database, "keeper")


def rows(records: KeptRecords) -> set[bytes]:
    """Every byte string that the host has of the store's records and key."""
    with records.database.transaction() as cursor:
        found = cursor.execute("SELECT id, version, label, value FROM records").fetchall()
        keys = cursor.execute("SELECT sealed FROM keys").fetchall()
    return {part for row in (*found, *keys) for part in row}


def test_all_of_it_is_there(enclave: Launch, records: KeptRecords) -> None:
    """Values, indexes and the count go on; nothing that the host had stays."""
    host = ocalls.serving(records)
    first = enclave(KEEPER, ocalls=host)
    first.fill(700, 100)
    first.put("k", b"v")
    before = rows(records)
    assert first.store_rekey() == 702
    assert not before & rows(records)
    assert first.get("k") == b"v"
    assert [first.add("n"), first.add("n")] == [1, 2]
    assert first.count() == (700, 350)
    first.close()
    second = enclave(KEEPER, ocalls=host)
    assert second.add("n") == 3
    assert second.count() == (700, 350)
    assert second.store_rekey() == 704
    assert enclave(KEEPER, ocalls=host).add("n") == 4


def test_an_empty_store(enclave: Launch, records: KeptRecords) -> None:
    """A store in which nothing was ever kept has one record then: its former key's name."""
    one = enclave(KEEPER, ocalls=ocalls.serving(records))
    assert one.store_rekey() == 1
    assert one.add("n") == 1


def test_an_old_copy_of_everything_is_refused(enclave: Launch, records: KeptRecords, tmp_path: Path) -> None:
    """A host that kept old records and the old sealed key has a store that was rolled back."""
    one = enclave(KEEPER, ocalls=ocalls.serving(records))
    one.put("k", b"v")
    with (
        closing(sqlite3.connect(tmp_path / "store.db")) as live,
        closing(sqlite3.connect(tmp_path / "old.db")) as old,
    ):
        live.backup(old)
    one.store_rekey()
    one.close()
    with Database(f"sqlite:///{tmp_path / 'old.db'}") as kept, pytest.raises(RemoteError) as refused:
        enclave(KEEPER, ocalls=ocalls.serving(keeping.records(kept, "keeper"))).get("k")
    assert refused.value.message == REKEYED


def test_an_instance_that_runs_on_serves_nothing(enclave: Launch, records: KeptRecords) -> None:
    """It neither reads nor writes under the old key, and must restart."""
    first, second = (enclave(KEEPER, ocalls=ocalls.serving(records)) for _ in range(2))
    second.put("k", b"v")
    first.store_rekey()
    for call in (lambda: second.get("k"), lambda: second.add("n")):
        with pytest.raises(RemoteError) as refused:
            call()
        assert refused.value.message == REKEYED
        assert refused.value.inner_code == "store_rekeyed"
    assert first.get("k") == b"v"


def test_a_commit_meanwhile(enclave: Launch, records: KeptRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer during the re-sealing keeps its change, and the key stays."""
    first, second = (enclave(KEEPER, ocalls=ocalls.serving(records)) for _ in range(2))
    first.put("k", b"v")
    begin = records.rekey_begin

    def slow() -> None:
        begin()
        second.put("k", b"w")

    host = dict(ocalls.serving(records)) | {"store_rekey_begin": slow}
    third = enclave(KEEPER, ocalls=host)
    with pytest.raises(RemoteError) as refused:
        third.store_rekey()
    assert refused.value.inner_code == "store_busy"
    assert [each.get("k") for each in (first, second, third)] == [b"w"] * 3


def test_another_platform_gets_the_fresh_key(
    enclave: Launch, records: KeptRecords, rehearsal_platform: RehearsalPlatform, tmp_path: Path
) -> None:
    """Its copy of the old key is gone; it joins as at first, and its counter records the end."""
    sister = RehearsalPlatform(tmp_path / "sister", datetime.now(UTC), rehearsal_platform.authority)
    host = ocalls.serving(records)
    first, there = enclave(KEEPER, ocalls=host), enclave(KEEPER, on=sister, ocalls=host)
    first.put("k", b"v")
    hand_over(first, there)
    assert there.get("k") == b"v"
    with (
        closing(sqlite3.connect(tmp_path / "store.db")) as live,
        closing(sqlite3.connect(tmp_path / "old.db")) as old,
    ):
        live.backup(old)
    first.store_rekey()
    with pytest.raises(RemoteError, match="AuthenticityError: store: "):
        there.get("k")
    again = enclave(KEEPER, on=sister, ocalls=host)
    with pytest.raises(RemoteError, match="UnavailableError: store: its key is sealed to another image"):
        again.get("k")
    hand_over(first, again)
    assert again.get("k") == b"v"
    with Database(f"sqlite:///{tmp_path / 'old.db'}") as kept, pytest.raises(RemoteError) as refused:
        enclave(KEEPER, on=sister, ocalls=ocalls.serving(keeping.records(kept, "keeper"))).get("k")
    assert refused.value.message == REKEYED


def test_a_host_that_hides_what_was_gathered(enclave: Launch, records: KeptRecords) -> None:
    """A record that is left out of the new store is missed when it opens, as it always is."""
    put, finish, replace = records.rekey_put, records.rekey_finish, msgspec.structs.replace
    host = dict(ocalls.serving(records)) | {
        "store_rekey_put": lambda version, puts: put(version, puts[1:]),
        "store_rekey_finish": lambda last: finish(replace(last, count=last.count - 1)),
    }
    one = enclave(KEEPER, ocalls=host)
    one.put("k", b"v")
    with pytest.raises(RemoteError, match="AuthenticityError: store: records: are not those of epoch 2"):
        one.store_rekey()


def test_a_host_that_shows_an_empty_store(enclave: Launch, records: KeptRecords, tmp_path: Path) -> None:
    """The fresh key's counter knew the store before the host could replace it with an empty one."""
    switched = SwitchedRecords(records)
    with Database(f"sqlite:///{tmp_path / 'empty.db'}") as empty:

        def finish(last: StoreRekey) -> bool:
            switched.now = keeping.records(empty, "keeper")
            return switched.now.keep_key(last.platform, last.sealed, True)

        one = enclave(KEEPER, ocalls=dict(ocalls.serving(switched)) | {"store_rekey_finish": finish})
        one.put("k", b"v")
        for call in (one.store_rekey, lambda: enclave(KEEPER, ocalls=ocalls.serving(switched)).get("k")):
            with pytest.raises(RemoteError, match="AuthenticityError: store: last commit: want epoch 2"):
                call()


def test_the_stores_own_table(stale_storage: StaleStorage) -> None:
    """No application reads or writes it."""
    store: SealedStore = stale_storage.storage
    for ask in (
        lambda: store.get(FORMER_KEYS, "k"),
        lambda: list(store.scan(FORMER_KEYS)),
        lambda: store.update(lambda work: work.put(FORMER_KEYS, "k", b"")),
        lambda: store.update(lambda work: work.delete(FORMER_KEYS, "k")),
    ):
        with pytest.raises(UsageError, match=r"want another name than kluis\.former-keys"):
            ask()
