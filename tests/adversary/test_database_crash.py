"""A database that confirms commits before they are safe, by its owner's setting, and then crashes."""

from __future__ import annotations

import functools
import os

from kluis.enclave.store import SealedStore
from kluis.enclave.store.model import Writing
from kluis.serve.store import Database, keeping
from tests.databases import cluster


def test_what_was_acknowledged_is_there_after_a_crash() -> None:
    """A server with ``synchronous_commit=off`` confirms first, and writes up to ten seconds later."""
    key = os.urandom(32)
    with cluster("-F -c synchronous_commit=off -c wal_writer_delay=10s") as server:
        url = server.make()
        with Database(url) as database:
            store = SealedStore(keeping.records(database, "test"), key)
            for number in range(20):
                store.update(functools.partial(_put, name=str(number)))
        server.crash()
        with Database(url) as database:
            store = SealedStore(keeping.records(database, "test"), key)
            assert len(list(store.scan("keys"))) == 20


def _put(writing: Writing, name: str) -> None:
    writing.put("keys", name, b"acknowledged")
