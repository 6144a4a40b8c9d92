"""Entries of a CBOR map: each error names the entry, the expected and the actual value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kluis.errors import FormatError
from kluis.formats.encoding.cbor import Tagged
from kluis.formats.encoding.entries import Entries, kind_of

GOOD = {"b": b"abc", "t": "text", "i": 7, "l": [b"a", b"bc"], "m": {1: 2}, "n": None, "y": True, 10: b"nonce"}


def entries() -> Entries:
    return Entries(GOOD, "map", {10: "nonce", 11: "profile"})


def test_reads() -> None:
    """A value of the right type and size is returned unchanged."""
    read = entries()
    assert read.octets("b", range(1, 4)) == b"abc"
    assert read.octets(10, (5, 6)) == b"nonce"
    assert read.octets_or_none("b", (3,)) == b"abc"
    assert read.octets_or_none("n", (3,)) is read.octets_or_none("absent", (3,)) is None
    assert read.text("t", limit=4) == read.text_or_none("t", limit=4) == "text"
    assert read.text_or_none(11, limit=4) is None
    assert read.integer("i", least=7, most=7) == 7
    assert read.boolean("y") is read["y"] is True
    assert read.array("l", least=2, most=2) == [b"a", b"bc"]
    assert read.octets_array("l", range(1, 3), least=1, most=2) == (b"a", b"bc")
    assert read.map("m", least=1, most=1) == {1: 2}
    assert "b" in read
    assert 11 not in read
    read.only(tuple(GOOD))
    read.only(("b", 10), tuple(GOOD))


CASES: list[tuple[Callable[[Entries], Any], str, str]] = [
    (lambda e: e.octets("t", (4,)), "map.t: want bytes, got text", "bad_type"),
    (lambda e: e.octets("b", (1, 2)), "map.b: is 3 bytes, want 1 or 2", "bad_length"),
    (lambda e: e.octets("b", range(4, 9)), "map.b: is 3 bytes, want 4 to 8", "bad_length"),
    (lambda e: e.octets(11, (1,)), "map: profile is missing", "bad_type"),
    (lambda e: e.octets(12, (1,)), "map: 12 is missing", "bad_type"),
    (lambda e: e.octets("n", (1,)), "map.n: want bytes, got null", "bad_type"),
    (lambda e: e.octets_or_none("i", (1,)), "map.i: want bytes, got an integer", "bad_type"),
    (lambda e: e.text(10, limit=9), "map.nonce: want text, got bytes", "bad_type"),
    (lambda e: e.text("t", limit=3), "map.t: is 4 long, want 1 to 3", "bad_length"),
    (lambda e: e.integer("b", most=9), "map.b: want an integer, got bytes", "bad_type"),
    (lambda e: e.integer("i", most=6), "map.i: want 0..6, got 7", "bad_encoding"),
    (lambda e: e.integer("i", least=8, most=9), "map.i: want 8..9, got 7", "bad_encoding"),
    (lambda e: e.boolean("i"), "map.i: want a boolean, got an integer", "bad_type"),
    (lambda e: e.boolean("absent"), "map: absent is missing", "bad_type"),
    (lambda e: e.array("m", least=0, most=1), "map.m: want a list, got a map", "bad_type"),
    (lambda e: e.array("l", least=0, most=1), "map.l: has 2 items, want 0 to 1", "bad_length"),
    (lambda e: e.array("l", least=3, most=4), "map.l: has 2 items, want 3 to 4", "bad_length"),
    (lambda e: e.octets_array("l", (1,), least=1, most=2), "map.l: holds 2 bytes, want 1", "bad_length"),
    (lambda e: e.map("l", least=0, most=1), "map.l: want a map, got a list", "bad_type"),
    (lambda e: e.map("m", least=0, most=0), "map.m: has 1 entries, want 0 to 0", "bad_length"),
    (lambda e: e.map("m", least=2, most=3), "map.m: has 1 entries, want 2 to 3", "bad_length"),
    (lambda e: e.only(("b", 11)), "map: profile is missing", "bad_type"),
    (lambda e: e.only(("b", "t", "i", "l", "m"), (10,)), "map: key 'n' is not known here", "bad_type"),
    (lambda e: e.only(("b", "t", "i", "l", "m", "n", "y")), "map: key 10 is not known here", "bad_type"),
]


@pytest.mark.parametrize(("read", "message", "code"), CASES, ids=[message for _, message, _ in CASES])
def test_refused(read: Callable[[Entries], Any], message: str, code: str) -> None:
    """Another type, another size, a missing or additional key: each is refused, with its name."""
    with pytest.raises(FormatError) as caught:
        read(entries())
    assert (str(caught.value), caught.value.code) == (message, code)


def test_items_of_another_type() -> None:
    """A list of byte strings holds nothing else."""
    with pytest.raises(FormatError) as caught:
        Entries({"l": [b"a", 1]}, "map").octets_array("l", (1,), least=1, most=2)
    assert str(caught.value) == "map.l: want bytes, got an integer"


def test_booleans_are_no_integers() -> None:
    """True is not 1."""
    with pytest.raises(FormatError) as caught:
        Entries({"i": True}, "map").integer("i", most=1)
    assert str(caught.value) == "map.i: want an integer, got a boolean"


def test_not_a_map() -> None:
    """What is no map has no entries."""
    with pytest.raises(FormatError) as caught:
        Entries([1], "map")
    assert (str(caught.value), caught.value.code) == ("map: want a map, got a list", "bad_type")
    assert kind_of(Tagged(18, 1)) == "a tag"
