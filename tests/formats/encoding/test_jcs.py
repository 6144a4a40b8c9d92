"""JSON: one canonical form, and a reader that refuses what readers disagree on."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import jcs
from tests.pace import within
from tests.strategies import PROPERTY, mutations

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-jcs.MAX_INTEGER, jcs.MAX_INTEGER)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_rfc_8785_keys() -> None:
    """Keys are sorted by UTF-16 code units, as in the RFC's example."""
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7}
    assert list(jcs.loads(jcs.dumps(value), "value")) == [  # type: ignore[arg-type]
        "\r",
        "1",
        "\x80",
        "\u00f6",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]


def test_rfc_8785_strings() -> None:
    """Only what must be escaped is, in the shortest way."""
    text = '\u20ac$\u000f\nA\'B"\\\\"/\b\t\f\r\x7f\u2028'
    assert jcs.dumps(text) == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\\b\\t\\f\\r\x7f\u2028"'.encode()


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (None, b"null"),
        (True, b"true"),
        (False, b"false"),
        (0, b"0"),
        (-7, b"-7"),
        ([], b"[]"),
        ((1, "a"), b'[1,"a"]'),
        ({}, b"{}"),
        ({"b": [None], "a": {}}, b'{"a":{},"b":[null]}'),
    ],
    ids=str,
)
def test_writes(value: jcs.Writable, want: bytes) -> None:
    """Every kind of value has one form."""
    assert jcs.dumps(value) == want


def _deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"", "it at 0x0: is not JSON: Expecting value", "bad_encoding"),
        (b"{} {}", "it at 0x3: is not JSON: Extra data", "bad_encoding"),
        (b"\xff", "it at 0x0: is not UTF-8", "bad_encoding"),
        (
            b"\xef\xbb\xbf{}",
            "it at 0x0: is not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig)",
            "bad_encoding",
        ),
        (b'{"a":1,"b":2,"a":3}', "it: key 'a' appears twice", "duplicate_key"),
        (b'[{"a":{"b":1,"b":1}}]', "it: key 'b' appears twice", "duplicate_key"),
        (b"1.0", "it: 1.0 is not an integer", "bad_type"),
        (b"1e3", "it: 1e3 is not an integer", "bad_type"),
        (b"NaN", "it: NaN is not an integer", "bad_type"),
        (b"-Infinity", "it: -Infinity is not an integer", "bad_type"),
        (b"9007199254740992", "it: integer 9007199254740992 is past 2^53-1", "bad_encoding"),
        (b"-9007199254740992", "it: integer -9007199254740992 is past 2^53-1", "bad_encoding"),
        (b"1" * 5000, f"it: integer {'1' * 32} is past 2^53-1", "bad_encoding"),
        (b'"\\ud800"', "it: a string holds half a character", "bad_encoding"),
        (b'{"\\udfff":1}', "it: a string holds half a character", "bad_encoding"),
        (_deep(34), "it: nested more than 32 deep", "too_deep"),
        (_deep(200_000), "it: nested more than 32 deep", "too_deep"),
        (b" " * (jcs.MAX_SIZE + 1), "it: is 1048577 bytes, must be at most 1048576", "too_large"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_refuses(data: bytes, message: str, code: str) -> None:
    """What two readers could take for two things is refused."""
    with pytest.raises(FormatError) as caught:
        jcs.loads(data, "it")
    assert (str(caught.value), caught.value.code) == (message, code)


@pytest.mark.parametrize(
    ("data", "value"),
    [(_deep(32), None), (b"9007199254740991", jcs.MAX_INTEGER), (b"-9007199254740991", -jcs.MAX_INTEGER)],
    ids=["deep", "most", "least"],
)
def test_bounds_are_inside(data: bytes, value: object) -> None:
    """The limits themselves are allowed."""
    assert value in (None, jcs.loads(data, "it"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "JSON: cannot hold a float"),
        (b"raw", "JSON: cannot hold a bytes"),
        ({1: 2}, "JSON: key must be a string, got int"),
        (1 << 53, "JSON: integer 9007199254740992 is past 2^53-1"),
        ("\ud800", "JSON: a string holds half a character"),
        ({"\ud800": 1}, "JSON: a string holds half a character"),
    ],
    ids=repr,
)
def test_does_not_write(value: jcs.Writable, message: str) -> None:
    """What JSON cannot hold is not written."""
    with pytest.raises(FormatError) as caught:
        jcs.dumps(value)
    assert str(caught.value) == message


def test_does_not_write_cycles() -> None:
    """A value that holds itself ends at the depth limit."""
    value: list[jcs.Writable] = []
    value.append(value)
    with pytest.raises(FormatError, match=r"^JSON: nested more than 32 deep$"):
        jcs.dumps(value)


@PROPERTY
@given(VALUES)
def test_round_trip(value: jcs.Json) -> None:
    """What is written reads back as itself, in canonical form."""
    assert jcs.loads_canonical(jcs.dumps(value), "it") == value


@PROPERTY
@given(mutations(jcs.dumps({"a": [1, -2, {"b": "\u20ac\n"}], "c": None, "d": True, "text": "x" * 8})))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses as canonical writes back to the same bytes; only our errors escape."""
    try:
        value = jcs.loads_canonical(data, "it")
    except KluisError:
        return
    assert jcs.dumps(value) == data


def test_other_forms_are_not_canonical() -> None:
    """Spacing, key order and escapes of choice are refused where the form must be canonical."""
    for data in (b"[1, 2]", b'{"b":1,"a":2}', b'"\\u0041"', b"-0"):
        with pytest.raises(FormatError) as caught:
            jcs.loads_canonical(data, "it")
        assert str(caught.value) == "it: is not in canonical form (RFC 8785)"


@pytest.mark.parametrize("opening", [b"[", b'{"":', b'{"a":[', b'["]\\"",'])
def test_deep_in_a_small_stack(opening: bytes) -> None:
    """A thread with little stack refuses depth as any other does, and does not end its process."""
    said: list[str] = []

    def read() -> None:
        try:
            jcs.loads(opening * 16_000, "it")
        except FormatError as error:
            said.append(error.code)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=read)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert said == ["too_deep"]


@pytest.mark.parametrize("text", ["[" * 99, '\\"' + "{[" * 99, "]}" * 99])
def test_brackets_in_text_are_no_nesting(text: str) -> None:
    """Only lists and objects nest."""
    data = json.dumps([text, [text]]).encode()
    assert jcs.loads(data, "it") == [text, [text]]


def test_text_without_end() -> None:
    """It is read once, however many escapes it holds."""
    with pytest.raises(FormatError, match="not JSON"):
        jcs.loads(b'"' + b'\\"[' * 300_000, "it")


def test_the_last_key_twice_is_found_at_once() -> None:
    """Of very many keys the one that appears twice is named without comparing each with each."""
    data = b"{" + b"".join(b'"%d":0,' % index for index in range(80_000)) + b'"79999":0}'
    with within(1), pytest.raises(FormatError, match=r"^it: key '79999' appears twice$"):
        jcs.loads(data, "it")


def test_a_long_key_twice_makes_no_long_message() -> None:
    """An error only contains the beginning of a key."""
    key = b'"' + b"k" * 100_000 + b'":0'
    with pytest.raises(FormatError, match=r"^it: key 'k{39} appears twice$"):
        jcs.loads(b"{" + key + b"," + key + b"}", "it")


def test_numbers_that_are_no_integers_where_they_may_be() -> None:
    """The caller chooses how non-integers are read; malformed numbers, and large integers, stay refused."""
    assert jcs.loads(b'{"a":1.50,"b":[1e2],"c":1}', "x", real=lambda digits: digits) == {
        "a": "1.50",
        "b": ["1e2"],
        "c": 1,
    }
    for text in (b"NaN", b"-Infinity", b"9007199254740992"):
        with pytest.raises(FormatError):
            jcs.loads(text, "x", real=lambda digits: digits)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["\\n",'])
def test_deep_in_little_memory(opening: bytes) -> None:
    """What is large and deep is refused at its first level too many, before it is read to its end."""
    data = opening * ((64 << 20) // len(opening))
    with pytest.raises(FormatError, match="nested more than 32 deep"):
        jcs.check_nesting(data, "it", jcs.MAX_DEPTH)
