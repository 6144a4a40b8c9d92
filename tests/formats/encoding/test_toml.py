"""TOML: what the standard library reads, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import toml
from tests.pace import within
from tests.strategies import PROPERTY, mutations

GOOD = b'version = 1\na.b."c.d" = [1, 2]\n[[e]]\nf = { g = "1.2.3.4.5.6.7.8.9.10.11.12" } # ...............\n'


def test_reads() -> None:
    """A document is parsed to its values."""
    assert toml.loads(GOOD, "it") == {
        "version": 1,
        "a": {"b": {"c.d": [1, 2]}},
        "e": [{"f": {"g": "1.2.3.4.5.6.7.8.9.10.11.12"}}],
    }


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"a = 1\na = 2", "it: is not TOML: Cannot overwrite a value (at end of document)", "bad_encoding"),
        (
            b"a = \xff",
            "it: is not TOML: 'utf-8' codec can't decode",
            "bad_encoding",
        ),
        (b"a = " + b"[" * 5000, "it: is not TOML: maximum recursion depth exceeded", "bad_encoding"),
        (b"a = " + b"1" * 5000, "it: is not TOML: Exceeds the limit", "bad_encoding"),
        (b"#" * (toml.MAX_SIZE + 1), "it: is 1048577 bytes, must be at most 1048576", "too_large"),
        (b".".join([b"a"] * 21) + b" = 1", "it: a key has more than 20 parts", "too_deep"),
        (b'[ "a b" . ' + b" . ".join([b"'a'"] * 20) + b" ]", "it: a key has more than 20 parts", "too_deep"),
    ],
)
def test_refuses(data: bytes, message: str, code: str) -> None:
    """Each is refused by what is wrong with it."""
    with pytest.raises(FormatError) as caught:
        toml.loads(data, "it")
    assert str(caught.value).startswith(message)
    assert caught.value.code == code
    assert (caught.value.hint == toml.MEND) is (code == "bad_encoding")


def test_keys_of_as_many_parts_as_there_may_be() -> None:
    """Twenty parts are read."""
    assert "a" in toml.loads(b".".join([b"a"] * 20) + b" = 1", "it")


@pytest.mark.parametrize(
    "piece",
    [
        *(b"a.", b"'a'.", b'"a".', b"a", b"a ", b"a . ", b'"', b"'", b"-", b".", b"[", b"{", b"#", b"\n"),
        b".".join([b"k"] * 19) + b"\n",
        b"[" + b".".join([b"k"] * 20) + b"]\n",
        b'"a\n',
    ],
)
def test_nothing_costs_more_than_a_second(piece: bytes) -> None:
    """As large as it may be, of anything, a document is refused at once."""
    with within(1), pytest.raises(FormatError):
        toml.loads(b"x = 1\n" + piece * (toml.MAX_SIZE // len(piece) - 1) + b"=", "it")


@PROPERTY
@given(mutations(GOOD) | st.binary())
def test_only_our_errors(data: bytes) -> None:
    """Whatever is done to a document, it is read or refused."""
    try:
        toml.loads(data, "it")
    except KluisError:
        return
