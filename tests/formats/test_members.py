"""JSON objects read member by member: typed, bounded, named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from kluis.errors import FormatError
from kluis.formats.encoding.members import Members

GOOD = Members(
    {
        "version": 2,
        "text": "abc",
        "number": 7,
        "hex": "00Ff",
        "time": "2026-01-31T10:20:30Z",
        "list": ["a", "b"],
        "objects": [{"x": 1}],
        "object": {"y": True},
        "flag": True,
        "none": None,
    },
    "it",
)


def test_reads() -> None:
    """Every kind of member comes out as what it is."""
    assert GOOD.version(1, 2) == 2
    assert (GOOD.text("text"), GOOD.integer("number"), GOOD.hex("hex", 2)) == ("abc", 7, b"\x00\xff")
    assert GOOD.time("time") == datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)
    assert GOOD.texts("list", most=2) == ("a", "b")
    assert [item.integer("x") for item in GOOD.objects("objects", most=1)] == [1]
    assert "y" in GOOD.object("object")
    assert "y" not in GOOD


REFUSED: dict[str, tuple[Callable[[Members], object], str]] = {
    "missing": (lambda m: m.text("gone"), "it: member 'gone' is missing"),
    "version": (lambda m: m.version(1), "it.version: want one of [1], got 2"),
    "text": (lambda m: m.text("number"), "it.text: want text, got an integer"),
    "long": (lambda m: m.text("text", limit=2), "it.text: is 3 long, must be at most 2"),
    "integer": (lambda m: m.integer("flag"), "it.flag: want an integer, got a boolean"),
    "range": (lambda m: m.integer("number", most=6), "it.number: want 0..6, got 7"),
    "hex": (lambda m: m.hex("text"), "it.text: is not hex"),
    "size": (lambda m: m.hex("hex", 3), "it.hex: want 3 bytes, got 2"),
    "time": (lambda m: m.time("text"), "it.text: is not a time like 2026-01-31T00:00:00Z"),
    "list": (lambda m: m.array("none", most=1), "it.none: want a list, got null"),
    "long list": (lambda m: m.array("list", most=1), "it.list: has 2 items, must be at most 1"),
    "texts": (lambda m: m.texts("objects", most=1), "it.objects: want text, got an object"),
    "objects": (lambda m: m.objects("list", most=2), "it.list: want an object, got text"),
    "object": (lambda m: m.object("list"), "it.list: want an object, got a list"),
    "only": (
        lambda m: m.object("object").only(["x"]),
        "it.object: want members ['x'], got ['y']",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Each failure names the member, what was wanted and what was there."""
    read, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        read(GOOD)
    assert str(caught.value) == message.replace("it.text: want text", "it.number: want text")


@pytest.mark.parametrize("text", ["2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00"])
def test_times_have_one_form(text: str) -> None:
    """An invalid time, or one in another form, is refused."""
    with pytest.raises(FormatError):
        Members({"t": text}, "it").time("t")
