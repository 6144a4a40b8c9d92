"""A database is named by a URL, is durable, and its failures are reported precisely."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from kluis.enclave.store import SealedStore
from kluis.errors import UnavailableError, UsageError
from kluis.serve.store import Database, keeping, records
from kluis.serve.store.database import database_file, read_url
from kluis.serve.store.mailbox import Mailbox, Step
from tests.databases import Cluster


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "database: want a URL"),
        ("mysql://localhost/x", "database: want sqlite or postgresql, got mysql"),
        ("postgresql+asyncpg://localhost/x", "database: want sqlite or postgresql, got postgresql+asyncpg"),
    ],
)
def test_urls(url: str, message: str) -> None:
    """Another database than the two is refused, in words that hold none of the URL's secrets."""
    with pytest.raises(UsageError) as refused:
        Database(url)
    assert refused.value.message == message


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    """The host has to fix its failure."""
    with pytest.raises(UnavailableError) as refused:
        records(Database(f"sqlite:///{tmp_path / 'no' / 'folder' / 'store.db'}"), "kluis")
    assert refused.value.message == "database: unable to open database file"
    with pytest.raises(UnavailableError):
        records(Database(f"postgresql://kluis:secret@/kluis?host={tmp_path}"), "kluis")


def test_sqlite_is_durable(tmp_path: Path) -> None:
    """Every commit is flushed: write-ahead log, synchronous FULL."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        cursor = database.cursor()
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA synchronous").fetchone() == (2,)


def test_many_who_make_one_at_once(tmp_path: Path) -> None:
    """Several processes may create a file: a later one waits while another prepares it."""
    together = threading.Barrier(8)

    def first(path: Path) -> int:
        together.wait(300)
        with Database(f"sqlite:///{path}") as database:
            return keeping.records(database, "one").read([], -1).epoch

    with ThreadPoolExecutor(8) as threads:
        for each in range(12):
            assert list(threads.map(first, [tmp_path / f"{each}.db"] * 8)) == [0] * 8


def test_a_broken_connection_is_replaced(database_url: str) -> None:
    """After the server has closed every connection, reads and commits go on over new ones."""
    with Database(database_url) as database:
        store = SealedStore(keeping.records(database, "one"), bytes(32))
        for at in range(3):
            cut(database, database_url)
            store.update(lambda work, at=at: work.put("t", "k", b"%d" % at))
            cut(database, database_url)
            assert store.get("t", "k") == b"%d" % at


def test_a_server_that_hangs(postgres: Cluster) -> None:
    """A connection to a hanging server is given up, and the request is repeated."""
    for seconds in (1, 10, 100):  # the longer ones where a server that does not hang is slow, too
        try:
            _hangs(postgres.make(), seconds)
        except UnavailableError:
            if seconds == 100:
                raise
        else:
            return


def _hangs(url: str, seconds: int) -> None:
    with Database(url, seconds=float(seconds)) as database:
        store = SealedStore(keeping.records(database, "one"), bytes(32))
        store.update(lambda work: work.put("t", "k", b"1"))
        with hung(database):
            assert store.get("t", "k") == b"1"
        with hung(database):
            store.update(lambda work: work.put("t", "k", b"2"))
        mailbox = Mailbox(keeping.records(database, "one"))
        with hung(database), pytest.raises(UnavailableError) as refused:
            mailbox.read(Step.BEAT)
        assert refused.value.message == f"database: no answer in {seconds} s"
        assert store.get("t", "k") == b"2"


def test_a_server_that_greets_nobody() -> None:
    """Nor does it wait for a server that accepts connections in the kernel, and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnavailableError) as refused:
        Database(f"postgresql://kluis@127.0.0.1:{silent.getsockname()[1]}/x", seconds=1.0)
    assert refused.value.message == "database: connection timeout expired"


def test_a_host_that_hangs_within_a_change(postgres: Cluster) -> None:
    """Others wait for the store that it has locked until its server gives up on it, which is soon."""
    with Database(postgres.make()) as database, database.transaction() as cursor:
        told = cursor.execute("SHOW idle_in_transaction_session_timeout").fetchone()
    assert told == ("30s",)


@contextmanager
def hung(database: Database) -> Iterator[None]:
    """Suspend the server's process behind this thread's connection."""
    pid: int = database.cursor().execute("SELECT pg_backend_pid()").fetchone()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_enclave_that_ended_holds_no_connections(database_url: str) -> None:
    """Threads that serve an enclave end with it, and later callers get their connections closed."""

    def ask(at: int) -> None:
        together.wait()
        records.read([], 0)

    with Database(database_url) as database:
        records = keeping.records(database, "one")
        for enclave in range(4):
            together = threading.Barrier(8)
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(ask, range(8)))
            held = len(os.listdir("/proc/self/fd"))
            if enclave == 1:
                settled = held
        assert held <= settled + 8


def cut(database: Database, url: str) -> None:
    """Close every connection, as a server that starts again does."""
    if url.startswith("sqlite"):
        database.cursor().connection.close()
        return
    with create_engine(read_url(url), poolclass=NullPool).connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@pytest.mark.parametrize("level", ["serializable", "repeatable%5C%20read"])
def test_a_server_with_another_isolation(postgres: Cluster, level: str) -> None:
    """Instances that commit at once wait for each other, whatever the server isolates by default."""
    url = f"{postgres.make()}%20-cdefault_transaction_isolation%3D{level}"
    together = threading.Barrier(4)

    def instance(_: int) -> None:
        with Database(url) as database:
            store = SealedStore(keeping.records(database, "one"), bytes(32))
            together.wait(300)
            for _ in range(10):
                store.update(lambda work: work.put("t", "k", b"%d" % (int(work.get("t", "k") or b"0") + 1)))

    with Database(url) as database:
        store = SealedStore(keeping.records(database, "one"), bytes(32))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(instance, range(4)))
        assert store.get("t", "k") == b"40"


def test_a_full_database_keeps_nothing(tmp_path: Path) -> None:
    """A commit that does not fit is reported, and the next that does is kept."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        store = SealedStore(keeping.records(database, "one"), bytes(32))
        pages = database.cursor().execute("PRAGMA page_count").fetchone()[0]
        database.cursor().execute(f"PRAGMA max_page_count={pages + 8}")
        with pytest.raises(UnavailableError) as failed:
            store.update(lambda work: work.put("t", "large", bytes(1 << 20)))
        assert failed.value.message == "database: database or disk is full"
        store.update(lambda work: work.put("t", "small", b"v"))
        assert [key for key, _ in store.scan("t")] == ["small"]


def test_the_file_of_a_database(tmp_path: Path) -> None:
    """A file is one file, by whatever link it is named; a server and what is in memory have none."""
    (tmp_path / "link").symlink_to(tmp_path)
    for named in (tmp_path / "a.db", tmp_path / "link" / "a.db"):
        assert database_file(f"sqlite:///{named}") == (tmp_path / "a.db").resolve()
    for url in ("sqlite://", "sqlite:///:memory:", "postgresql://kluis@/postgres"):
        assert database_file(url) is None
