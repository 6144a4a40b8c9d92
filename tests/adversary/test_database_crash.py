"""A database that confirms commits before they are safe, by its owner's setting, and then crashes."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from kluis.enclave.store import SealedStore
from kluis.enclave.store.model import Writing
from kluis.serve.store import Database, keeping
from kluis.tee.platform.root.counters import Counters
from tests.databases import CountersWitness, cluster


def test_what_was_acknowledged_is_there_after_a_crash(tmp_path: Path) -> None:
    """A server with ``synchronous_commit=off`` confirms first, and writes up to ten seconds later.

    A store that lost a commit is behind its witness, and opens no more.
    """
    key, witness = os.urandom(32), CountersWitness(Counters(tmp_path / "counters"))
    with cluster("-F -c synchronous_commit=off -c wal_writer_delay=10s") as server:
        url = server.make()
        with Database(url) as database:
            store = SealedStore(keeping.records(database, "test"), key, witness=witness)
            for number in range(20):
                store.update(functools.partial(_put, name=str(number)))
        server.crash()
        with Database(url) as database:
            store = SealedStore(keeping.records(database, "test"), key, witness=witness)
            assert len(list(store.scan("keys"))) == 20


def _put(writing: Writing, name: str) -> None:
    writing.put("keys", name, b"acknowledged")
