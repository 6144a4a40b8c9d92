"""TOML read strictly: large, deep and doubled documents are refused, and foreign errors do not leave."""

from __future__ import annotations

import pytest

from kluis.appraisal.policy.toml_tables import Table, parse
from kluis.errors import FormatError

REFUSED = {
    "large": (b"#" * 101, "it: is 101 bytes, must be at most 100", "too_large"),
    "deep": (b"a=" + b"[" * 9 + b"]" * 9, "it: nested more than 8 deep", "too_deep"),
    "tables that are deep": (b".".join([b"a"] * 10) + b" = 1", "it: nested more than 8 deep", "too_deep"),
    "very deep": (b"[" * 100, None, "bad_encoding"),
    "twice": (b"a=1\na=2", None, "bad_encoding"),
    "no text": (b"\xff", None, "bad_encoding"),
    "a date that is none": (b"a = 2026-02-31", None, "bad_encoding"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Each is refused with its code."""
    data, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        parse(data, "it", most=100, hint="hint")
    assert caught.value.code == code
    assert message is None or str(caught.value) == message


def test_many_values() -> None:
    """A document of more values than any policy has is refused."""
    with pytest.raises(FormatError) as caught:
        parse(b"a = [" + b"1," * 4097 + b"]", "it", most=1 << 20, hint="hint")
    assert str(caught.value) == "it: more than 4096 values"


def test_as_many_and_as_deep_as_there_may_be() -> None:
    """The bounds themselves are good."""
    parse(b"a = [" + b"1," * 4096 + b"]", "it", most=1 << 20, hint="hint")
    parse(b"a=" + b"[" * 8 + b"]" * 8, "it", most=100, hint="hint")


@pytest.mark.parametrize(("given", "good"), [(0, True), (7, True), (-1, False), (8, False), (True, False)])
def test_numbers(given: object, good: bool) -> None:
    """A number, and each of a list, is between 0 and the maximum; booleans are refused."""
    for read, value in ((Table.number, given), (Table.numbers, [3, given])):
        table = Table({"a": value}, "it", "hint")
        if good:
            assert read(table, "a", 7) in (given, {3, given})
            continue
        with pytest.raises(FormatError):
            read(table, "a", 7)


def test_peek_and_keys() -> None:
    """What is looked at stays; what is taken is gone."""
    table = Table({"b": 1, "a": "any"}, "it", "hint")
    assert table.keys == ["a", "b"]
    assert table.any("a")
    assert table.keys == ["b"]
    assert not table.any("b")
    with pytest.raises(FormatError) as caught:
        table.end()
    assert str(caught.value) == "it.b: is not a key of a it"
