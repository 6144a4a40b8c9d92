"""The store: what transactions see, when they conflict, and what is undone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import UsageError
from kluis.ledger import store as module
from kluis.ledger.store import Conflict, Store
from tests.strategies import PROPERTY

T = "public:t"


def store_of(**values: str) -> Store:
    """A store with one table at version 1."""
    store = Store()
    store.apply(1, {T: {key.encode(): value.encode() for key, value in values.items()}})
    return store


def test_reads_and_writes() -> None:
    """A transaction sees the state, and its own writes before they are anybody else's."""
    store = store_of(a="1", b="2", c="3")
    transaction = store.begin()
    assert (transaction.read_version, transaction.get(T, b"a"), transaction.get(T, b"x")) == (1, b"1", None)
    transaction.put(T, b"d", b"4")
    transaction.remove(T, b"b")
    assert transaction.get(T, b"d") == b"4"
    assert not transaction.has(T, b"b")
    assert list(transaction.items(T)) == [(b"a", b"1"), (b"c", b"3"), (b"d", b"4")]
    assert list(transaction.items(T, b"b")) == [(b"c", b"3"), (b"d", b"4")]
    assert list(store.begin().items(T)) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    assert transaction.writes == {T: {b"d": b"4", b"b": None}}
    assert transaction.get("public:other", b"a") is None
    assert list(transaction.items("public:other")) == []
    store.apply(2, transaction.writes)
    assert list(store.begin().items(T)) == [(b"a", b"1"), (b"c", b"3"), (b"d", b"4")]
    assert (store.version, store.tables()) == (2, (T,))


def test_empty_values_are_values() -> None:
    """An empty key and an empty value are stored as any other."""
    store = Store()
    store.apply(1, {T: {b"": b""}})
    assert store.begin().get(T, b"") == b""
    assert list(store.begin().items(T)) == [(b"", b"")]


@pytest.mark.parametrize(
    ("read", "write", "conflict"),
    [
        ("get a", {b"a": b"2"}, True),
        ("get a", {b"a": None}, True),
        ("get a", {b"b": b"2"}, False),
        ("get x", {b"x": b"2"}, True),
        ("get x", {b"x": None}, True),
        ("get x", {b"a": b"2"}, False),
        ("items", {b"z": b"2"}, True),
        ("put a", {b"a": b"2"}, False),
        ("put a, get a", {b"a": b"2"}, False),
    ],
)
def test_conflicts(read: str, write: dict[bytes, bytes | None], conflict: bool) -> None:
    """What was read, and not what was written, must be as it was."""
    store = store_of(a="1", b="1")
    transaction = store.begin()
    for step in read.split(", "):
        match step.split():
            case ["get", key]:
                transaction.get(T, key.encode())
            case ["put", key]:
                transaction.put(T, key.encode(), b"own")
            case _:
                assert len(list(transaction.items(T))) == 2
    store.apply(2, {"public:elsewhere": {b"a": b"1"}})
    assert not store.conflicts(transaction)
    store.apply(3, {T: write})
    assert store.conflicts(transaction) is conflict


def test_one_state() -> None:
    """A transaction never sees two states: a read of something newer ends it."""
    store = store_of(a="1", b="1")
    transaction = store.begin()
    assert transaction.get(T, b"a") == b"1"
    store.apply(2, {T: {b"a": b"2", b"b": b"2", b"c": b"2", b"x": None}})
    for work in (
        lambda: transaction.get(T, b"b"),
        lambda: transaction.get(T, b"c"),
        lambda: transaction.get(T, b"x"),
        lambda: list(transaction.items(T)),
    ):
        with pytest.raises(Conflict) as caught:
            work()
        assert str(caught.value) == "table public:t: changed while a transaction read it"
    items = (fresh := store.begin()).items(T)
    assert next(items) == (b"a", b"2")
    store.apply(3, {T: {b"z": b"3"}})
    with pytest.raises(Conflict):
        next(items)
    assert store.conflicts(fresh)


def test_forgotten_removals_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a key was removed is not kept without end; what is forgotten conflicts."""
    monkeypatch.setattr(module, "MAX_REMOVED", 2)
    store = store_of(a="1", b="1", c="1", d="1")
    transaction = store.begin()
    assert transaction.get(T, b"never") is None
    store.apply(2, {T: {b"a": None, b"b": None}})
    assert not store.conflicts(transaction)
    store.apply(3, {T: {b"c": None}})
    assert store.conflicts(transaction)
    assert store.begin().get(T, b"a") is None


def test_rollback() -> None:
    """Entries that were not committed are undone; what read them conflicts, also at the same seqno."""
    store = store_of(a="1", b="1")
    store.apply(2, {T: {b"a": b"2", b"b": None, b"c": b"2"}})
    store.compact(1)
    stale = store.begin()
    assert stale.get(T, b"a") == b"2"
    store.rollback(1)
    assert store.version == 1
    assert list(store.begin().items(T)) == [(b"a", b"1"), (b"b", b"1")]
    assert store.conflicts(stale)
    store.apply(2, {T: {b"b": b"9"}})
    assert store.conflicts(stale)
    assert list(store.begin().items(T)) == [(b"a", b"1"), (b"b", b"9")]
    with pytest.raises(UsageError):
        store.rollback(3)


def test_committed_is_not_undone() -> None:
    """What was committed stays, whatever is rolled back."""
    store = store_of(a="1")
    store.apply(2, {T: {b"a": b"2"}})
    store.compact(2)
    store.apply(3, {T: {b"a": b"3"}})
    store.rollback(2)
    assert store.begin().get(T, b"a") == b"2"


def test_order_and_names() -> None:
    """Seqnos rise, and a table has a name."""
    store = store_of(a="1")
    for seqno in (0, 1):
        with pytest.raises(UsageError):
            store.apply(seqno, {})
    for name in ("", "é" * 513):
        with pytest.raises(UsageError):
            store.begin().put(name, b"", b"")


keys = st.sampled_from([b"a", b"b", b"c", b""])
writes = st.dictionaries(keys, st.none() | st.binary(max_size=2), max_size=4)


@given(st.lists(writes, max_size=8), st.integers(0, 8))
@PROPERTY
def test_as_a_dictionary(applied: list[dict[bytes, bytes | None]], back: int) -> None:
    """A table is the dictionary that its writes make; undone, it is the one of before."""
    store, states = Store(), [dict[bytes, bytes]()]
    for seqno, changes in enumerate(applied, 1):
        store.apply(seqno, {T: changes})
        after = {key: value for key, value in {**states[-1], **changes}.items() if value is not None}
        states.append(after)
        assert list(store.begin().items(T)) == sorted(after.items())
    target = max(len(applied) - back, 0)
    store.rollback(target)
    assert list(store.begin().items(T)) == sorted(states[target].items())
    assert all(store.begin().get(T, key) == states[target].get(key) for key in (b"a", b"b", b"c", b""))


def test_what_is_final_is_not_undone() -> None:
    """A log that is read keeps nothing to undo; what comes after it is undone as usual."""
    store = Store()
    store.apply(1, {"a": {b"k": b"1"}}, final=True)
    store.apply(2, {"a": {b"k": b"2"}})
    store.rollback(1)
    assert store.begin().get("a", b"k") == b"1"
