"""A host that keeps a store's records changes, swaps, hides, revives and rolls them back, and is detected.

Where it is not, the test states that: an instance that starts on an older copy, with no witness, accepts it
as the newest, and its label states this risk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, create_engine, delete, insert, select, update
from sqlalchemy.pool import NullPool

from kluis.enclave.store import SealedStore, Writing
from kluis.enclave.store.cipher import Cipher
from kluis.enclave.store.records import StoreAnswer, StoreCommit, StoreLabel, StoreSurvey
from kluis.errors import AuthenticityError, FormatError, RemoteError, UnavailableError
from kluis.serve.store import Database, keeping
from kluis.serve.store.database import read_url
from kluis.serve.store.keeping import KeptRecords
from kluis.serve.store.schema import JOURNAL, RECORDS, STORES
from kluis.tee.platform.root.counters import Counters
from kluis.testing.stale_storage import SwitchedRecords
from tests.databases import CountersWitness, database_url, postgres

__all__ = ["database_url", "postgres"]

KEY = os.urandom(32)
CIPHER = Cipher(KEY)
Row = dict[str, Any]


class Host:
    """A host that writes to its own database as it likes."""

    def __init__(self, url: str, store: str = "store") -> None:
        self.database = Database(url)
        self.records: KeptRecords = keeping.records(self.database, store)
        self.engine: Engine = create_engine(read_url(url), poolclass=NullPool)

    def start(self, witness: CountersWitness | None = None, key: bytes = KEY) -> SealedStore:
        """Another instance of the enclave."""
        return SealedStore(self.records, key, witness=witness)

    def row(self, key: str) -> Row:
        """A record's row."""
        with self.engine.connect() as connection:
            found = connection.execute(select(RECORDS).where(RECORDS.c.id == CIPHER.id("t", key)))
            return dict(found.mappings().one())

    def dump(self) -> dict[Table, list[Row]]:
        """Everything."""
        with self.engine.connect() as connection:
            return {
                table: [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in (STORES, RECORDS, JOURNAL)
            }

    def restore(self, dump: dict[Table, list[Row]]) -> None:
        """Set everything back."""
        with self.engine.begin() as connection:
            for table in (JOURNAL, RECORDS, STORES):
                connection.execute(delete(table))
            for table, rows in dump.items():
                if rows:
                    connection.execute(insert(table), rows)

    def change(self, *statements: Any) -> None:
        """Write to the database."""
        with self.engine.begin() as connection:
            for one in statements:
                connection.execute(one)

    def change_row(self, key: str, **values: Any) -> None:
        """Write to a record's row."""
        self.change(update(RECORDS).where(RECORDS.c.id == CIPHER.id("t", key)).values(**values))

    def close(self) -> None:
        """Close everything."""
        self.database.close()
        self.engine.dispose()


@pytest.fixture
def host(database_url: str) -> Iterator[Host]:
    """A host with a store of three records, of epochs 1, 2 and 3."""
    made = Host(database_url)
    yield made
    made.close()


@pytest.fixture
def store(host: Host) -> SealedStore:
    """A running instance, and three records that it wrote."""
    made = host.start()
    for key in "abc":
        put(made, key, key.encode() * 10)
    return made


@pytest.fixture
def witness(tmp_path: Path) -> CountersWitness:
    """A platform's counters."""
    return CountersWitness(Counters(tmp_path / "counters"))


def put(store: SealedStore, key: str, value: bytes) -> None:
    store.update(lambda work: work.put("t", key, value, index="i"))


def flip(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def refused(what: Callable[[], Any]) -> str:
    """The message with which an access is refused as not authentic."""
    with pytest.raises(AuthenticityError) as error:
        what()
    return error.value.message


def asking(store: SealedStore) -> list[Callable[[], Any]]:
    """Every way to read record a that requests it from the host, even for an instance that caches it."""
    return [
        lambda: store.get("t", "a"),
        lambda: list(store.scan("t")),
        lambda: list(store.scan("t", "i")),
    ]


def read_all(store: SealedStore) -> list[Callable[[], Any]]:
    """Every way to read record a, of an instance that has not seen it."""
    return [*asking(store), lambda: store.update(lambda work: work.get("t", "a"))]


@pytest.mark.parametrize("at", [0, 12, -1])
def test_a_flipped_bit_of_a_value(host: Host, store: SealedStore, at: int) -> None:
    """Nonce, ciphertext or tag: the record does not open for any reader."""
    host.change_row("a", value=flip(host.row("a")["value"], at))
    for access in [*asking(store), *read_all(host.start())]:
        assert refused(access) == "store: record: is not what this store's enclaves wrote"
    assert store.get("t", "b") == b"b" * 10


@pytest.mark.parametrize("size", [0, 11, 27])
def test_a_cut_value(host: Host, store: SealedStore, size: int) -> None:
    """A value shorter than a sealed nothing is refused like any other."""
    host.change_row("a", value=host.row("a")["value"][:size])
    assert refused(lambda: store.get("t", "a")) == "store: record: is not what this store's enclaves wrote"


@pytest.mark.parametrize("column", ["label", "version", "id"])
def test_a_flipped_bit_beside_the_value(host: Host, store: SealedStore, column: str) -> None:
    """Names, version and id are bound too: no instance starts on a changed one."""
    host.change_row("a", **{column: flip(host.row("a")[column])})
    assert refused(host.start) == "store: record: is not what this store's enclaves wrote"


def test_another_version_number(host: Host, store: SealedStore) -> None:
    """A record that claims to be of another commit is not the one that is known."""
    host.change_row("a", version=host.row("b")["version"])
    for access in asking(store):
        assert refused(access) == "store: record: want the one of epoch 1, got epoch 2"


def test_swapped_records(host: Host, store: SealedStore) -> None:
    """Two records in each other's place, with everything but the id, are refused."""
    a, b = host.row("a"), host.row("b")
    for key, other in (("a", b), ("b", a)):
        host.change_row(key, value=other["value"])
    assert refused(lambda: store.get("t", "a")) == "store: record: is not what this store's enclaves wrote"
    for key, other in (("a", b), ("b", a)):
        host.change_row(key, version=other["version"], label=other["label"])
    assert refused(lambda: store.get("t", "a")) == "store: record: want the one of epoch 1, got epoch 2"
    assert refused(host.start) == "store: record: is not what this store's enclaves wrote"


def test_swapped_records_of_one_commit(host: Host, store: SealedStore) -> None:
    """Two records of one version are no more each other's than any two."""
    store.update(lambda work: [work.put("t", key, key.encode() * 10) for key in "ab"])
    a, b = host.row("a"), host.row("b")
    host.change_row("a", value=b["value"])
    host.change_row("b", value=a["value"])
    for key in "ab":
        assert refused(lambda key=key: store.get("t", key)) == (
            "store: record: is not what this store's enclaves wrote"
        )


def test_an_older_record(host: Host, store: SealedStore) -> None:
    """A record as it once was is refused by who runs, and by who starts."""
    old = host.row("a")
    put(store, "a", b"new")
    host.change_row("a", **old)
    for access in asking(store):
        assert refused(access) == "store: record: want the one of epoch 4, got epoch 1"
    assert refused(host.start) == "store: records: are not those of epoch 4, the last commit"


def test_an_older_value_under_the_newest_version(host: Host, store: SealedStore) -> None:
    """A value that a commit wrote does not open as another commit's, whatever number the host gives it."""
    old = host.row("a")["value"]
    put(store, "a", b"new")
    host.change_row("a", value=old)
    for access in [*asking(store), *read_all(host.start())]:
        assert refused(access) == "store: record: is not what this store's enclaves wrote"


def test_a_hidden_record(host: Host, store: SealedStore) -> None:
    """A record that is gone without having been deleted is missed by who runs, and by who starts."""
    host.change(delete(RECORDS).where(RECORDS.c.id == CIPHER.id("t", "a")))
    assert refused(lambda: store.get("t", "a")) == "store: record: want one, got none"
    for access in asking(store):
        assert refused(access).startswith("store: record: want one, got none")
    assert refused(host.start) == "store: records: are not those of epoch 3, the last commit"


def test_a_revived_record(host: Host, store: SealedStore) -> None:
    """A record that was deleted does not come back."""
    old = host.row("a")
    store.update(lambda work: work.delete("t", "a"))
    assert store.get("t", "a") is None
    host.change(insert(RECORDS).values(old))
    assert refused(lambda: store.get("t", "a")) == "store: record of epoch 1: was deleted since"
    assert [key for key, _ in store.scan("t")] == ["b", "c"]
    assert refused(host.start) == "store: records: are not those of epoch 4, the last commit"


def test_another_stores_record(host: Host, store: SealedStore, database_url: str) -> None:
    """A record that an enclave with another key wrote does not open here, whatever it is called."""
    other = Host(database_url, "other")
    theirs = other.start(key=bytes(32))
    for _ in "abc":
        put(theirs, "a", b"theirs")
    with other.engine.connect() as connection:
        row = connection.execute(select(RECORDS).where(RECORDS.c.id == Cipher(bytes(32)).id("t", "a")))
        value = row.mappings().one()["value"]
    host.change_row("a", value=value)
    assert refused(lambda: store.get("t", "a")) == "store: record: is not what this store's enclaves wrote"
    other.close()


def test_another_enclaves_store(host: Host, store: SealedStore) -> None:
    """An enclave with another key finds a store that is not its own, and does not start a new one there."""
    assert refused(lambda: host.start(key=bytes(32))) == (
        "store: head of epoch 3: is not what this store's enclaves wrote"
    )


def test_everything_set_back(host: Host, store: SealedStore) -> None:
    """A running instance notices; one that starts then, without a witness, does not, and its label states
    it.
    """
    dump = host.dump()
    put(store, "a", b"new")
    host.restore(dump)
    for access in asking(store):
        assert refused(access) == "store: last commit: want epoch 4 or later, got 3"
    started = host.start()
    assert started.rollback == "undetected"
    assert started.get("t", "a") == b"a" * 10


def test_everything_set_back_before_a_witness(host: Host, witness: CountersWitness) -> None:
    """With a witness an instance that starts then notices, too, and a running one does as well."""
    store = host.start(witness)
    put(store, "a", b"old")
    dump = host.dump()
    put(store, "a", b"new")
    host.restore(dump)
    assert store.rollback == "detected while the platform runs"
    assert refused(lambda: host.start(witness)) == "store: last commit: want epoch 2 or later, got 1"
    assert refused(lambda: store.get("t", "a")) == "store: last commit: want epoch 2 or later, got 1"


def test_an_idle_instance_is_not_shown_an_older_state(host: Host, witness: CountersWitness) -> None:
    """A host cannot withhold state that one instance knows is kept from another instance."""
    one, two = host.start(witness), host.start(witness)
    dump = host.dump()
    put(one, "a", b"new")
    host.restore(dump)
    assert refused(lambda: two.get("t", "a")) == "store: last commit: want epoch 1 or later, got 0"


def test_everything_dropped(host: Host, witness: CountersWitness) -> None:
    """An empty database is a new store only to a witness without any record of it."""
    put(host.start(witness), "a", b"value")
    host.restore({})
    host.records = keeping.records(host.database, "store")
    assert refused(lambda: host.start(witness)) == "store: last commit: want epoch 1 or later, got 0"
    assert host.start().get("t", "a") is None


def test_an_old_head_over_new_records(host: Host, store: SealedStore) -> None:
    """The head of one commit does not fit the records of another."""
    head = host.dump()[STORES]
    put(store, "a", b"new")
    host.change(update(STORES).values(epoch=head[0]["epoch"], head=head[0]["head"]))
    assert refused(lambda: store.get("t", "a")) == "store: last commit: want epoch 4 or later, got 3"
    assert refused(host.start) == "store: records: are not those of epoch 3, the last commit"


def test_a_changed_head(host: Host, store: SealedStore) -> None:
    """A changed head opens for nobody; nor does one that claims another epoch."""
    head = host.dump()[STORES][0]["head"]
    host.change(update(STORES).values(head=flip(head)))
    assert refused(host.start) == "store: head of epoch 3: is not what this store's enclaves wrote"
    host.change(update(STORES).values(head=head, epoch=4))
    assert refused(host.start) == "store: head of epoch 4: is not what this store's enclaves wrote"
    assert refused(lambda: store.get("t", "a")) == (
        "store: journal entry 4: want one of 1 newer ones, got none"
    )


def test_a_journal_entry_dropped(host: Host, store: SealedStore) -> None:
    """An instance that follows the journal does not go on past a gap."""
    other = host.start()
    for _ in range(3):
        put(store, "a", b"new")
    host.change(delete(JOURNAL).where(JOURNAL.c.epoch == 5))
    assert refused(lambda: other.get("t", "a")) == (
        "store: journal entry 5: does not follow what this enclave has seen"
    )
    assert (
        refused(lambda: other.get("t", "a")) == "store: journal entry 5: want one of 2 newer ones, got none"
    )


def test_a_journal_out_of_order(host: Host, store: SealedStore) -> None:
    """Changed or reordered entries do not follow."""
    other = host.start()
    for _ in range(2):
        put(store, "a", b"new")
    four, five = (row["entry"] for row in host.dump()[JOURNAL][3:5])
    for wrong in (flip(four), five):
        host.change(update(JOURNAL).where(JOURNAL.c.epoch == 4).values(entry=wrong))
        assert refused(lambda: other.get("t", "a")) == (
            "store: journal entry 4: does not follow what this enclave has seen"
        )
    host.change(update(JOURNAL).where(JOURNAL.c.epoch == 4).values(entry=four))
    assert other.get("t", "a") == b"new"


class Copy(Host):
    """A host that keeps a second copy of a store, under another name."""

    def take(self, dump: dict[Table, list[Row]]) -> None:
        """Take all that a dump of the first store has."""
        mine = next(row["id"] for row in self.dump()[STORES] if row["name"] == "copy")
        first = next(row for row in dump[STORES] if row["name"] == "store")
        with self.engine.begin() as connection:
            connection.execute(
                update(STORES).where(STORES.c.id == mine).values(epoch=first["epoch"], head=first["head"])
            )
            for table in (RECORDS, JOURNAL):
                connection.execute(delete(table).where(table.c.store == mine))
                rows = [row | {"store": mine} for row in dump[table] if row["store"] == first["id"]]
                connection.execute(insert(table), rows)


@pytest.fixture
def copy(host: Host, database_url: str) -> Iterator[Copy]:
    """A second copy of the store."""
    made = Copy(database_url, "copy")
    yield made
    made.close()


def test_a_fork(host: Host, store: SealedStore, copy: Copy) -> None:
    """Two instances that were shown two copies can never be brought back to one."""
    copy.take(host.dump())
    seen = SwitchedRecords(copy.records)
    other = SealedStore(seen, KEY)
    put(store, "a", b"one history")
    put(other, "a", b"another")
    seen.now = host.records
    assert refused(lambda: other.get("t", "a")) == "store: record: want the one of epoch 4, got epoch 4"
    put(store, "b", b"more")
    assert refused(lambda: other.get("t", "c")) == (
        "store: journal entry 5: does not follow what this enclave has seen"
    )


def test_a_fork_before_a_witness(host: Host, copy: Copy, witness: CountersWitness) -> None:
    """Of two instances that were shown two copies only the first keeps anything; the second refuses to."""
    one = host.start(witness)
    put(one, "a", b"both")
    copy.take(host.dump())
    two, three = copy.start(witness), copy.start(witness)
    put(one, "a", b"one history")
    assert refused(lambda: two.get("t", "a")) == "store: last commit: want epoch 2 or later, got 1"
    assert (
        refused(lambda: put(three, "a", b"another")) == "store: commit 2: is not the one that was witnessed"
    )


def test_a_longer_fork_before_a_witness(host: Host, copy: Copy, witness: CountersWitness) -> None:
    """A copy that went on without the witness is refused at start, though its last commit is a later one."""
    one = host.start(witness)
    put(one, "a", b"both")
    copy.take(host.dump())
    put(one, "a", b"one history")
    elsewhere = copy.start()
    for _ in range(3):
        put(elsewhere, "a", b"another")
    assert refused(lambda: copy.start(witness)) == (
        "store: journal entry 3: does not follow what this enclave has seen"
    )
    assert host.start(witness).get("t", "a") == b"one history"


def test_two_writers_lose_nothing(host: Host, witness: CountersWitness) -> None:
    """Whatever several threads of several instances add up is the sum."""
    instances = [host.start(witness), host.start(witness)]

    def add(work: Writing) -> None:
        work.put("t", "sum", b"%d" % (int(work.get("t", "sum") or b"0") + 1))

    def run(instance: SealedStore) -> None:
        for _ in range(20):
            instance.update(add)

    threads = [threading.Thread(target=run, args=(one,)) for one in instances * 2]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert instances[0].get("t", "sum") == b"%d" % (20 * len(threads))


class Lying(SwitchedRecords):
    """Records that answer a commit as instructed: each lie is used once."""

    def __init__(self, now: KeptRecords, lies: Sequence[str]) -> None:
        super().__init__(now)
        self.lies = list(lies)

    def commit(self, commit: StoreCommit) -> bool:
        match self.lies.pop(0) if self.lies else "truth":
            case "kept, says not":
                self.now.commit(commit)
                return False
            case "kept, fails":
                self.now.commit(commit)
                raise RemoteError("OperationalError", "the connection was lost")
            case "not kept, says kept":
                return True
            case "not kept, fails":
                raise RemoteError("OperationalError", "the disk is full")
            case "not kept, says not":
                return False
            case _:
                return self.now.commit(commit)


def count_up(store: SealedStore) -> int:
    def work(writing: Writing) -> int:
        value = int(writing.get("t", "n") or b"0") + 1
        writing.put("t", "n", b"%d" % value)
        return value

    return store.update(work)


@pytest.mark.parametrize("lie", ["kept, says not", "kept, fails"])
def test_a_commit_that_was_kept_after_all(host: Host, store: SealedStore, lie: str) -> None:
    """A commit whose fate the host lies about, or cannot tell, is found in the journal, not made twice."""
    lying = Lying(host.records, [lie] * 3)
    other = SealedStore(lying, KEY)
    assert [count_up(other) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert store.get("t", "n") == b"5"


def test_a_commit_that_was_not_kept(host: Host, store: SealedStore) -> None:
    """A commit that the host falsely confirms is missed at the next read; a failed one is reported."""
    lying = Lying(host.records, ["not kept, fails", "not kept, says not", "truth", "not kept, says kept"])
    other = SealedStore(lying, KEY)
    with pytest.raises(UnavailableError) as failed:
        count_up(other)
    assert failed.value.message == "store: host: OperationalError: the disk is full"
    assert count_up(other) == 1
    assert count_up(other) == 2
    assert refused(lambda: other.get("t", "n")) == "store: last commit: want epoch 5 or later, got 4"
    assert count_up(store) == 2


def test_a_host_that_always_says_no(host: Host, store: SealedStore) -> None:
    """An update ends, and reports that nothing is kept."""
    other = SealedStore(Lying(host.records, ["not kept, says not"] * 10_000), KEY)
    with pytest.raises(UnavailableError) as failed:
        count_up(other)
    assert failed.value.message == "store: update: others were first 32 times"


class Answering(SwitchedRecords):
    """Records whose answers are changed on the way."""

    def __init__(self, now: KeptRecords) -> None:
        super().__init__(now)
        self.change: Callable[[StoreAnswer], StoreAnswer] = lambda answer: answer
        self.labels: Callable[[StoreSurvey], StoreSurvey] = lambda survey: survey

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        return self.change(super().read(ids, known))

    def survey(self, after: bytes) -> StoreSurvey:
        return self.labels(super().survey(after))


def test_a_survey_that_does_not_end(host: Host, store: SealedStore) -> None:
    """Ids must rise and labels open, so a list of records ends where the records do."""
    answering = Answering(host.records)
    first = host.records.survey(b"")
    answering.labels = lambda _: first
    assert refused(lambda: SealedStore(answering, KEY)) == "store: records: want rising ids"
    answering.labels = lambda survey: (
        survey if survey.labels else StoreSurvey([StoreLabel(b"\xff" * 32, bytes(24), bytes(100))])
    )
    assert refused(lambda: SealedStore(answering, KEY)) == (
        "store: record: is not what this store's enclaves wrote"
    )


def test_a_host_that_answers_in_another_shape(host: Host, store: SealedStore) -> None:
    """A refusal at the boundary is reported as the host's fault."""
    answering = Answering(host.records)
    other = SealedStore(answering, KEY)

    def misshapen(_: StoreAnswer) -> StoreAnswer:
        raise FormatError("ocall store_read: result: want an object, got 7")

    answering.change = misshapen
    assert refused(lambda: other.get("t", "a")) == (
        "store: host: ocall store_read: result: want an object, got 7"
    )


def test_nothing_is_told_in_plain(host: Host, store: SealedStore) -> None:
    """Names, indexes and values are nowhere in the host's data; equal ones look different."""
    secret = b"a very recognisable secret"
    store.update(lambda work: work.put("very-secret-table", "very-secret-key", secret, index="secret-index"))
    store.update(lambda work: work.put("very-secret-table", "other-key", secret, index="secret-index"))
    dump = host.dump()
    kept = b"".join(
        bytes(value)
        for rows in dump.values()
        for row in rows
        for value in row.values()
        if isinstance(value, bytes)
    )
    for word in (b"secret", b"very", b"recognis", b"index", KEY):
        assert word not in kept
    values = [row["value"] for row in dump[RECORDS]]
    assert len({value[12:] for value in values}) == len(values)
