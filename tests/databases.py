"""Databases for tests: SQLite in a folder of the test's, and a PostgreSQL cluster of the session's own."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kluis.enclave.attester import nothing
from kluis.enclave.store.witness import Witnessed
from kluis.tee.platform.root.counters import Counters

__all__ = ["Cluster", "CountersWitness", "cluster", "database_url", "postgres"]


class Cluster(NamedTuple):
    """A PostgreSQL server on a unix socket.

    ``crash`` ends it without a last write, and starts it again.
    """

    socket: Path
    number: count[int]
    crash: Callable[[], None]

    def make(self) -> str:
        """Make an empty schema, which isolates like a separate database, and return its URL."""
        import psycopg

        name = f"test{next(self.number)}"
        with psycopg.connect(host=str(self.socket), user="kluis", dbname="postgres", autocommit=True) as made:
            made.execute(f"CREATE SCHEMA {name}")
        return f"postgresql://kluis@/postgres?host={self.socket}&options=-csearch_path%3D{name}"


class CountersWitness:
    """A platform's counters as a store's witness, without an enclave between."""

    label = "detected while the platform runs"

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def read(self) -> Witnessed:
        value, _, mark = self._counters.read("tests", bytes(32))
        return Witnessed(value, mark)

    def advance(self, to: Witnessed, meanwhile: Callable[[], None] = nothing) -> Witnessed:
        meanwhile()
        value, _, mark = self._counters.advance("tests", bytes(32), to.epoch, to.chain)
        return Witnessed(value, mark)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A cluster for this session, run by an ordinary user, only on a unix socket."""
    # The cluster outlives no run and no crash of the machine: a commit waits for no disk.
    with cluster("-F -c synchronous_commit=off -c full_page_writes=off") as made:
        yield made


@contextlib.contextmanager
def cluster(options: str) -> Iterator[Cluster]:
    """A cluster with these options of its server."""
    programs = programs_of("initdb", "pg_ctl")
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    initdb, pg_ctl = programs
    folder = Path(tempfile.mkdtemp(prefix="kluis-pg-"))
    user = ordinary_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    run: dict[str, Any] = {
        "check": True,
        "cwd": folder,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        **who,
    }
    data = str(folder / "data")
    options = f"-k {folder} -c listen_addresses='' -c max_connections=200 {options}"
    start = [pg_ctl, "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"]
    stop = [pg_ctl, "-D", data, "-w", "-m", "immediate", "stop"]

    def crash() -> None:
        subprocess.run(stop, **run)
        subprocess.run(start, **run)

    try:
        subprocess.run([initdb, "-D", data, "-U", "kluis", "-A", "trust", "-E", "UTF8", "-N"], **run)
        subprocess.run(start, **run)
        yield Cluster(folder, count(), crash)
        subprocess.run(stop, **run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new database, of each kind in turn; no commit waits for a disk."""
    if request.param == "sqlite":
        with tempfile.TemporaryDirectory(dir=os.environ["XDG_CACHE_HOME"]) as folder:
            yield f"sqlite:///{folder}/store.db"
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    yield cluster.make()


def programs_of(*names: str) -> list[str] | None:
    """Where PostgreSQL's own programs are; Debian keeps them off the PATH."""
    places = [*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), os.environ.get("PATH", "")]
    found = [shutil.which(name, path=os.pathsep.join(places)) for name in names]
    return None if None in found else [one for one in found if one is not None]


def ordinary_user() -> pwd.struct_passwd | None:
    """The user that the server runs as: it refuses to be root's. None: the user of the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("no ordinary user to run PostgreSQL as")
