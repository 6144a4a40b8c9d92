"""Whatever two instances do to a store, in any order, it holds what a dictionary would."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.enclave.store import SealedStore, Writing
from kluis.serve.store import Database, keeping
from tests.strategies import examples

TABLES, KEYS, INDEXES = ("t", "u"), ("a", "b", "c", "é", "d" * 40), ("", "i", "j")


class Op(NamedTuple):
    """One change, or one read, of one record."""

    kind: str
    table: str
    key: str
    index: str
    value: bytes


class Update(NamedTuple):
    """What one instance does in one update; or it starts again."""

    instance: int
    restart: bool
    fails: bool
    ops: list[Op]


OPS = st.builds(
    Op,
    st.sampled_from(("put", "put", "delete", "get", "scan")),
    st.sampled_from(TABLES),
    st.sampled_from(KEYS),
    st.sampled_from(INDEXES),
    st.binary(max_size=40),
)
UPDATES = st.lists(
    st.builds(
        Update,
        st.integers(0, 1),
        st.integers(0, 9).map(lambda number: number == 0),
        st.integers(0, 9).map(lambda number: number == 0),
        st.lists(OPS, max_size=6),
    ),
    max_size=12,
)
Model = dict[tuple[str, str], tuple[bytes, str]]


class Enough(Exception):
    """An update that ends in the middle."""


def scanned(model: Model, table: str, index: str) -> list[tuple[str, bytes]]:
    return sorted(
        (key, value)
        for (where, key), (value, what) in model.items()
        if where == table and (not index or what == index)
    )


def run(update: Update, store: SealedStore, model: Model) -> Model:
    """Run an update on both, and compare all that it reads; the model after it."""
    after: Model = {}

    def work(writing: Writing) -> None:
        nonlocal after
        after = dict(model)
        for op in update.ops:
            if op.kind == "put":
                writing.put(op.table, op.key, op.value, index=op.index)
                after[op.table, op.key] = op.value, op.index
            elif op.kind == "delete":
                writing.delete(op.table, op.key)
                after.pop((op.table, op.key), None)
            elif op.kind == "get":
                assert writing.get(op.table, op.key) == after.get((op.table, op.key), (None, ""))[0]
            else:
                wanted = scanned(after, op.table, op.index)
                assert list(writing.scan(op.table, op.index)) == wanted
                later = [(key, value) for key, value in wanted if key > op.key]
                assert list(writing.scan(op.table, op.index, after=op.key)) == later
        if update.fails:
            raise Enough

    try:
        store.update(work)
    except Enough:
        return model
    return after


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database; each example has a separate store in it."""
    with Database(f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db") as made:
        yield made


NUMBER = itertools.count()


@settings(max_examples=examples(100))
@given(updates=UPDATES)
def test_equals_a_dictionary(database: Database, updates: list[Update]) -> None:
    """Two instances, updates that fail, instances that start again: every read is the dictionary's."""
    key, model = os.urandom(32), {}
    records = keeping.records(database, str(next(NUMBER)))
    stores = [SealedStore(records, key), SealedStore(records, key)]
    for update in updates:
        if update.restart:
            stores[update.instance] = SealedStore(records, key)
        model = run(update, stores[update.instance], model)
        other = stores[1 - update.instance]
        for table in TABLES:
            assert list(other.scan(table)) == scanned(model, table, "")
    for store in [*stores, SealedStore(records, key)]:
        for table in TABLES:
            for index in INDEXES:
                assert list(store.scan(table, index)) == scanned(model, table, index)
            for one in KEYS:
                assert store.get(table, one) == model.get((table, one), (None, ""))[0]
