"""A store keeps what it was given, finds it again, and changes all or nothing."""

from __future__ import annotations

import pytest

from kluis.enclave.store import SealedStore, Writing
from kluis.errors import UsageError


def test_put_get_scan_delete(storage: SealedStore) -> None:
    """What was put is found by key and by index, in order of key; what was deleted is not."""

    def fill(store: Writing) -> None:
        for key, index in (("c", "even"), ("a", "even"), ("b", "odd")):
            store.put("letters", key, key.encode() * 2, index=index)
        store.put("others", "a", b"other")

    storage.update(fill)
    assert storage.get("letters", "a") == b"aa"
    assert storage.get("letters", "z") is None
    assert storage.get("nothing", "a") is None
    assert list(storage.scan("letters")) == [("a", b"aa"), ("b", b"bb"), ("c", b"cc")]
    assert list(storage.scan("letters", "even")) == [("a", b"aa"), ("c", b"cc")]
    assert list(storage.scan("letters", "none")) == []
    assert list(storage.scan("letters", after="a")) == [("b", b"bb"), ("c", b"cc")]
    assert list(storage.scan("letters", "even", after="a")) == [("c", b"cc")]
    assert list(storage.scan("letters", after="c")) == []

    storage.update(lambda store: store.delete("letters", "a"))
    assert storage.get("letters", "a") is None
    assert list(storage.scan("letters", "even")) == [("c", b"cc")]
    assert storage.get("others", "a") == b"other"


def test_own_changes_are_seen(storage: SealedStore) -> None:
    """Within an update its own changes are read, by key and by index; outside none is until all are."""
    storage.update(lambda store: store.put("t", "old", b"0", index="i"))

    def work(store: Writing) -> list[tuple[str, bytes]]:
        store.put("t", "new", b"1", index="i")
        store.delete("t", "old")
        assert store.get("t", "new") == b"1"
        assert store.get("t", "old") is None
        assert storage.get("t", "new") is None
        return list(store.scan("t", "i"))

    assert storage.update(work) == [("new", b"1")]
    assert list(storage.scan("t")) == [("new", b"1")]


def test_nothing_is_kept_of_a_failed_update(storage: SealedStore) -> None:
    """What the work raises is raised, and nothing that it put is there."""

    def work(store: Writing) -> None:
        store.put("t", "k", b"v")
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        storage.update(work)
    assert storage.get("t", "k") is None
    assert storage.epoch == 0


@pytest.mark.parametrize(
    ("table", "key", "index", "message"),
    [
        ("", "k", "", "store table: want 1 to 64 characters, got 0"),
        ("t" * 65, "k", "", "store table: want 1 to 64 characters, got 65"),
        ("t", "", "", "store key: want 1 to 512 characters, got 0"),
        ("t", "k" * 513, "", "store key: want 1 to 512 characters, got 513"),
        ("t", "k", "i" * 513, "store index: want 0 to 512 characters, got 513"),
        ("t", "\ud800", "", "store key: want Unicode text, got half a surrogate pair"),
    ],
)
def test_names_are_bounded(storage: SealedStore, table: str, key: str, index: str, message: str) -> None:
    """A name out of bounds is refused before the host hears of it."""
    with pytest.raises(UsageError) as refused:
        storage.update(lambda store: store.put(table, key, b"", index=index))
    assert refused.value.message == message


def test_values_are_bounded(storage: SealedStore) -> None:
    """A value has at most 4 MiB, an update at most 1024 changes and 64 MiB."""
    with pytest.raises(UsageError) as refused:
        storage.update(lambda store: store.put("t", "k", bytes((4 << 20) + 1)))
    assert refused.value.message == "store value: want at most 4194304 bytes, got 4194305"
    with pytest.raises(UsageError) as refused:
        storage.update(lambda store: [store.put("t", str(n), b"") for n in range(1025)])
    assert refused.value.message == "store update: want at most 1024 changes, got one more"
    with pytest.raises(UsageError) as refused:
        storage.update(lambda store: [store.put("t", str(n), bytes(4 << 20)) for n in range(17)])
    assert refused.value.message == "store update: want at most 67108864 bytes, got 71303168"


def test_large_values(storage: SealedStore) -> None:
    """Values that no single answer of the host can hold are all read."""
    for at in range(4):
        storage.update(lambda store, at=at: store.put("t", f"{at}", bytes([at]) * (4 << 20)))
    assert [(key, value[:1]) for key, value in storage.scan("t")] == [
        (f"{at}", bytes([at])) for at in range(4)
    ]
