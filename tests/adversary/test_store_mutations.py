"""Whatever a host changes in its database, an enclave reads what was written, or refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.enclave.store import SealedStore
from kluis.errors import AuthenticityError
from kluis.serve.store.schema import JOURNAL, RECORDS, STORES
from tests.adversary.test_store import KEY, Host
from tests.strategies import examples, mutations

WRITTEN = {"a": b"first", "b": b"second", "c": b"third" * 20}


class Scene(NamedTuple):
    """A host, what it has, and what it had."""

    host: Host
    now: dict[Any, list[dict[str, Any]]]
    before: dict[Any, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A store of some commits, in SQLite."""
    host = Host(f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db")
    store = host.start()
    for key in "abcd":
        store.update(lambda work, key=key: work.put("t", key, b"before " + os.urandom(8), index="i"))
    before = host.dump()
    for key, value in WRITTEN.items():
        store.update(lambda work, key=key, value=value: work.put("t", key, value, index="i"))
    store.update(lambda work: work.delete("t", "d"))
    yield Scene(host, host.dump(), before)
    host.close()


def everything(store: SealedStore) -> tuple[Any, ...]:
    """All that can be read."""
    return (
        dict(store.scan("t")),
        dict(store.scan("t", "i")),
        {key: store.get("t", key) for key in "abcd"},
    )


WHOLE = (WRITTEN, WRITTEN, WRITTEN | {"d": None})


def reads_or_refuses(read: Any) -> None:
    try:
        found = read()
    except AuthenticityError:
        return
    assert found == WHOLE


@settings(max_examples=examples(150))
@given(data=st.data())
def test_whatever_is_changed(scene: Scene, data: st.DataObject) -> None:
    """Bytes changed, rows dropped, exchanged or older, before one that runs and one that starts."""
    host = scene.host
    changed = {table: [dict(row) for row in rows] for table, rows in scene.now.items()}
    host.restore(scene.now)
    running = host.start()
    for _ in range(data.draw(st.integers(1, 2))):
        table = data.draw(st.sampled_from((STORES, RECORDS, JOURNAL)))
        rows = changed[table]
        row = data.draw(st.sampled_from(rows))
        column = data.draw(
            st.sampled_from([name for name, value in row.items() if name not in ("store", "name")])
        )
        kind = data.draw(st.sampled_from(("bytes", "bytes", "exchange", "drop", "older")))
        if kind == "drop" and table is not STORES and len(rows) > 1:
            rows.remove(row)
        elif kind == "exchange" and len(rows) > 1 and column not in ("id", "epoch"):
            other = data.draw(st.sampled_from(rows))
            row[column], other[column] = other[column], row[column]
        elif kind == "older" and table is not JOURNAL:
            older = [one for one in scene.before[table] if one["id"] == row["id"]]
            row.update(data.draw(st.sampled_from(older)) if older else {})
        elif isinstance(row[column], bytes) and column != "id":
            row[column] = data.draw(mutations(row[column]))
    host.restore(changed)
    reads_or_refuses(lambda: everything(running))
    reads_or_refuses(lambda: everything(SealedStore(host.records, KEY)))
