"""CBOR in its one strict form: what is read is written back, what readers disagree on is refused."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding import cbor
from kluis.formats.encoding.cbor import IndefiniteMap, Tagged
from tests.strategies import PROPERTY, mutations

GOOD = {
    "00": 0,
    "17": 23,
    "1818": 24,
    "18ff": 255,
    "190100": 256,
    "1a00010000": 65536,
    "1b0000000100000000": 1 << 32,
    "1bffffffffffffffff": (1 << 64) - 1,
    "20": -1,
    "3822": -35,
    "3bffffffffffffffff": -(1 << 64),
    "f4": False,
    "f5": True,
    "f6": None,
    "40": b"",
    "4401020304": b"\1\2\3\4",
    "60": "",
    "63e6b0b4": "水",
    "80": [],
    "83010203": [1, 2, 3],
    "a0": {},
    "a201020304": {1: 2, 3: 4},
    "a26161016162820203": {"a": 1, "b": [2, 3]},
    "d28400f6f4f5": Tagged(18, [0, None, False, True]),
    "a1001818": {0: 24},
    "a1005818" + "aa" * 24: {0: b"\xaa" * 24},
}

REFUSED = {
    "": ("thing at 0x0: needs 1 bytes, 0 left", "truncated"),
    "0000": ("thing at 0x1: 1 bytes after the end", "trailing_data"),
    "18": ("thing at 0x1: needs 1 bytes, 0 left", "truncated"),
    "1817": ("thing at 0x0: its head is not minimal", "bad_encoding"),
    "1900ff": ("thing at 0x0: its head is not minimal", "bad_encoding"),
    "1a0000ffff": ("thing at 0x0: its head is not minimal", "bad_encoding"),
    "1b00000000ffffffff": ("thing at 0x0: its head is not minimal", "bad_encoding"),
    "5817" + "00" * 23: ("thing at 0x0: its head is not minimal", "bad_encoding"),
    "43aabb": ("thing at 0x1: needs 3 bytes, 2 left", "truncated"),
    "63aabb": ("thing at 0x1: needs 3 bytes, 2 left", "truncated"),
    "5bffffffffffffffff": ("thing at 0x9: needs 18446744073709551615 bytes, 0 left", "truncated"),
    "9bffffffffffffffff": ("thing at 0x9: needs 18446744073709551615 bytes, 0 left", "truncated"),
    "8201": ("thing at 0x1: needs 2 bytes, 1 left", "truncated"),
    "a2010203": ("thing at 0x4: needs 1 bytes, 0 left", "truncated"),
    "62c328": ("thing at 0x1: text is not UTF-8", "bad_encoding"),
    "63eda080": ("thing at 0x1: text is not UTF-8", "bad_encoding"),
    "1c": ("thing at 0x0: head 0x1c is not used here", "bad_encoding"),
    "3d": ("thing at 0x0: head 0x3d is not used here", "bad_encoding"),
    "5f4100ff": ("thing at 0x0: head 0x5f is not used here", "bad_encoding"),
    "7f6100ff": ("thing at 0x0: head 0x7f is not used here", "bad_encoding"),
    "9fff": ("thing at 0x0: head 0x9f is not used here", "bad_encoding"),
    "bfff": ("thing at 0x0: head 0xbf is not used here", "bad_encoding"),
    "ff": ("thing at 0x0: head 0xff is not used here", "bad_encoding"),
    "fc": ("thing at 0x0: head 0xfc is not used here", "bad_encoding"),
    "e0": ("thing at 0x0: want false, true or null, got head 0xe0", "bad_type"),
    "f7": ("thing at 0x0: want false, true or null, got head 0xf7", "bad_type"),
    "f820": ("thing at 0x0: want false, true or null, got head 0xf8", "bad_type"),
    "f93c00": ("thing at 0x0: want false, true or null, got head 0xf9", "bad_type"),
    "fb3ff0000000000000": ("thing at 0x0: want false, true or null, got head 0xfb", "bad_type"),
    "c0613a": ("thing at 0x0: tag 0 is not used here", "bad_type"),
    "c24101": ("thing at 0x0: tag 2 is not used here", "bad_type"),
    "a201020103": ("thing at 0x3: key 1 appears twice", "duplicate_key"),
    "a2616102616103": ("thing at 0x4: key 'a' appears twice", "duplicate_key"),
    "a2005818" + "aa" * 24 + "005818" + "aa" * 24: ("thing at 0x1c: key 0 appears twice", "duplicate_key"),
    "a100581817": ("thing at 0x4: needs 24 bytes, 1 left", "truncated"),
    "a1005817" + "aa" * 23: ("thing at 0x2: its head is not minimal", "bad_encoding"),
    "a1410000": ("thing at 0x1: a key must be an integer or text", "bad_type"),
    "a1f500": ("thing at 0x1: a key must be an integer or text", "bad_type"),
    "a18000": ("thing at 0x1: a key must be an integer or text", "bad_type"),
    "a118": ("thing at 0x2: needs 1 bytes, 0 left", "truncated"),
}


@pytest.mark.parametrize("data", GOOD)
def test_good(data: str) -> None:
    """Each value has one encoding, is read from it and written to it; cbor2 reads the same."""
    raw, value = bytes.fromhex(data), GOOD[data]
    read = cbor.loads(raw, "thing", tags=(18,))
    assert (read, type(read)) == (value, type(value))
    assert cbor.dumps(value) == raw
    theirs: Any = cbor2.loads(raw)
    assert theirs == value if not isinstance(value, Tagged) else (theirs.tag, list(theirs.value)) == value


@pytest.mark.parametrize("data", REFUSED)
def test_refused(data: str) -> None:
    """Long heads, duplicate keys, indefinite lengths, floats and odd simple values are each refused."""
    with pytest.raises(FormatError) as caught:
        cbor.loads(bytes.fromhex(data), "thing", tags=(18,))
    assert (str(caught.value), caught.value.code) == REFUSED[data]


def test_maps_of_indefinite_length() -> None:
    """Where the caller allows it, a map of indefinite length is read, and written as it was."""
    raw = bytes.fromhex("bf6161bf01f6ff6162a0ff")
    read = cbor.loads(raw, "thing", indefinite_maps=True)
    assert read == {"a": {1: None}, "b": {}}
    assert isinstance(read, IndefiniteMap)
    assert cbor.dumps(read) == raw


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        ("bf0100", "thing at 0x3: needs 1 bytes, 0 left", "truncated"),
        ("bf01ff", "thing at 0x2: head 0xff is not used here", "bad_encoding"),
        ("bf01000101ff", "thing at 0x3: key 1 appears twice", "duplicate_key"),
        ("9fff", "thing at 0x0: head 0x9f is not used here", "bad_encoding"),
        ("bf", "thing at 0x1: needs 1 bytes, 0 left", "truncated"),
        ("bfffff", "thing at 0x2: 1 bytes after the end", "trailing_data"),
    ],
)
def test_maps_of_indefinite_length_refused(data: str, message: str, code: str) -> None:
    """A map of indefinite length has whole entries, unique keys, and an end."""
    with pytest.raises(FormatError) as caught:
        cbor.loads(bytes.fromhex(data), "thing", indefinite_maps=True)
    assert (str(caught.value), caught.value.code) == (message, code)


@pytest.mark.parametrize("within", [b"\x81", b"\xa1\x01", b"\xd2", b"\xbf\x01"], ids=bytes.hex)
def test_depth(within: bytes) -> None:
    """Nesting is bounded for arrays, maps and tags alike, however small the bytes."""
    end = b"\xff" if within == b"\xbf\x01" else b""
    good = within * 8 + b"\x00" + end * 8
    assert cbor.dumps(cbor.loads(good, "thing", tags=(18,), indefinite_maps=True)) == good
    with pytest.raises(FormatError) as caught:
        cbor.loads(within + good + end, "thing", tags=(18,), indefinite_maps=True)
    assert (str(caught.value), caught.value.code) == (
        f"thing at {8 * len(within):#x}: is nested too deep",
        "too_deep",
    )
    with pytest.raises(FormatError):
        cbor.loads(within * 30_000, "thing", tags=(18,), indefinite_maps=True)


def test_size() -> None:
    """Size is bounded before anything is read."""
    with pytest.raises(FormatError) as caught:
        cbor.loads(bytes(65537), "thing")
    assert (str(caught.value), caught.value.code) == (
        "thing: is 65537 bytes, must be at most 65536",
        "too_large",
    )


LISTS = cbor2.dumps([[0] * 63] * 64)
MAPS = b"\xbf" + b"".join(cbor2.dumps(i) + b"\xf6" for i in range(4096)) + b"\xff"


@pytest.mark.parametrize("data", [LISTS, MAPS, cbor2.dumps(dict.fromkeys(range(4096)))], ids=len)
def test_items(data: bytes) -> None:
    """What a few bytes can cost is bounded: items and entries are counted, over all levels."""
    assert cbor.dumps(cbor.loads(data, "thing", indefinite_maps=True)) == data


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (cbor2.dumps([[0] * 63] * 63 + [[0] * 64]), "0x1001"),
        (MAPS[:-1] + b"\x20\xf6\xff", "0x3ee9"),
        (cbor2.dumps([None] * 4097), "0x0"),
        (cbor2.dumps(dict.fromkeys(range(4097))), "0x0"),
    ],
    ids=["lists", "a map of indefinite length", "a list", "a map"],
)
def test_too_many_items(data: bytes, at: str) -> None:
    """One item more than allowed is refused at its position, before it is read."""
    with pytest.raises(FormatError) as caught:
        cbor.loads(data, "thing", indefinite_maps=True)
    assert (str(caught.value), caught.value.code) == (f"thing at {at}: more than 4096 items", "too_large")


def test_long_keys_are_cut_in_messages() -> None:
    """A message does not carry a hostile key whole."""
    entry = cbor.dumps({"k" * 1000: 0})[1:]
    with pytest.raises(FormatError) as caught:
        cbor.loads(b"\xa2" + entry * 2, "thing")
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "CBOR: cannot hold a float"),
        (1 << 64, "CBOR: want an integer of 64 bits, got a larger one"),
        (-(1 << 64) - 1, "CBOR: want an integer of 64 bits, got a larger one"),
        ({1: {2}}, "CBOR: cannot hold a set"),
        ("\ud800", "CBOR: a text holds half a character"),
        ({None: 1}, "CBOR: want a key that is an integer or text, got a NoneType"),
        ({True: 1}, "CBOR: want a key that is an integer or text, got a bool"),
        ([[[[[[[[[1]]]]]]]]], "CBOR: want at most 8 values within each other, got more"),
    ],
    ids=repr,
)
def test_not_written(value: Any, message: str) -> None:
    """What this form cannot hold is refused, and no other value written in its place."""
    with pytest.raises(UsageError) as caught:
        cbor.dumps(value)
    assert str(caught.value) == message


KEYS = st.integers(-(1 << 64), (1 << 64) - 1) | st.text(max_size=8)
LEAVES = KEYS | st.booleans() | st.none() | st.binary(max_size=300)


def _larger(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4) | st.dictionaries(KEYS, values, max_size=4)


VALUES = st.recursive(LEAVES, _larger, max_leaves=12).filter(lambda value: _depth(value) <= 8)


def _depth(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    items = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(_depth, items), default=0)


@given(VALUES)
@PROPERTY
def test_same_as_cbor2(value: Any) -> None:
    """Whatever is written reads back, here and by cbor2, which writes the same bytes."""
    raw = cbor.dumps(value)
    assert cbor.loads(raw, "thing") == value == cbor2.loads(raw)
    assert cbor2.dumps(value) == raw


GOODS = tuple(map(bytes.fromhex, GOOD))
LARGE = cbor2.dumps({"pcrs": {i: bytes(48) for i in range(4)}, "list": [b"x" * 300, {"a": -5}], "n": None})


@given(mutations(*GOODS, LARGE, b"\xbf" + LARGE[1:] + b"\xff"))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever is read writes back to the same bytes, and cbor2 reads the same; only our errors escape."""
    try:
        value = cbor.loads(data, "thing", indefinite_maps=True)
    except FormatError:
        return
    assert cbor.dumps(value) == data
    assert cbor2.loads(data) == value
