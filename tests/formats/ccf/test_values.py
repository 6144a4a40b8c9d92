"""Test the reader of what members wrote."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError
from kluis.formats.ccf.values import MAX_DEPTH, read_json


def test_any_number() -> None:
    """Numbers of any kind are read, as JavaScript does."""
    text = b'{"a":1.5,"b":100000000000000000000,"c":-9007199254740992,"d":9007199254740991,"e":1e20}'
    assert read_json(text, "x") == {"a": 1.5, "b": 1e20, "c": -(2.0**53), "d": 9007199254740991, "e": 1e20}
    assert read_json(b"1" * 400, "x") == float("inf")


@pytest.mark.parametrize("wrong", [b"NaN", b"{", b'{"a":1,"a":1}', b'"\\ud800"', b"[" * (MAX_DEPTH + 1)])
def test_what_is_refused(wrong: bytes) -> None:
    """Everything else that parsers disagree on."""
    with pytest.raises(FormatError):
        read_json(wrong, "x")
