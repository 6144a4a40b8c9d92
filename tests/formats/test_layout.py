"""The layout compiler: a table reads, writes, and refuses what it does not claim."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.layout import U8, U16, U32, U64, Struct, at, layout
from tests.strategies import PROPERTY


@layout("inner", 4)
class Inner(Struct):
    """Two bytes, and two that are reserved."""

    value: int = at(0, U16)


@layout("outer", 24)
class Outer(Struct):
    """Every kind of field, gaps between and after, one declared out of order."""

    small: int = at(0, U8)
    long: int = at(8, U64)
    word: int = at(4, U32)
    raw: bytes = at(16, 2)
    inner: Inner = at(19, Inner)


@layout("outer v2", 24)
class OuterV2(Outer):
    """A later version claims a byte that the first reserves."""

    more: int = at(1, U8)


GOOD = bytes.fromhex("01 000000 02000000 0300000000000000 aabb 00 0400 0000 00")


def test_reads_and_writes() -> None:
    """Fields come out as the table places them, and go back to the same bytes."""
    parsed = Outer.parse(GOOD)
    assert parsed == Outer(small=1, word=2, long=3, raw=b"\xaa\xbb", inner=Inner(value=4))
    assert parsed.encode() == GOOD
    assert (Outer.NAME, Outer.SIZE) == ("outer", 24)


def test_later_version() -> None:
    """A subclass reads what its base reserves; the base refuses it."""
    data = GOOD[:1] + b"\x05" + GOOD[2:]
    assert OuterV2.parse(data).more == 5
    assert OuterV2.parse(data).encode() == data
    with pytest.raises(FormatError, match=r"^outer\.reserved at 0x1: must be zero, found 0x05$"):
        Outer.parse(data)


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (GOOD[:-1], "outer at 0x0: is 23 bytes, must be 24", "truncated"),
        (GOOD + b"\0", "outer at 0x0: is 25 bytes, must be 24", "trailing_data"),
        (GOOD[:23] + b"\x09", "outer.reserved at 0x17: must be zero, found 0x09", "bad_encoding"),
        (GOOD[:18] + b"\x07" + GOOD[19:], "outer.reserved at 0x12: must be zero, found 0x07", "bad_encoding"),
        (GOOD[:22] + b"\x08\0", "inner.reserved at 0x16: must be zero, found 0x08", "bad_encoding"),
    ],
)
def test_refuses(data: bytes, message: str, code: str) -> None:
    """Another size, or a byte that no field claims, is refused with its place."""
    with pytest.raises(FormatError) as caught:
        Outer.parse(data)
    assert (str(caught.value), caught.value.code) == (message, code)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Inner(value=-1), "inner.value: want 2 unsigned bytes, got -1"),
        (Inner(value=1 << 16), "inner.value: want 2 unsigned bytes, got 65536"),
        (
            Outer(small=1, word=2, long=3, raw=b"a", inner=Inner(value=4)),
            "outer.raw: want 2 bytes, got 1",
        ),
    ],
)
def test_does_not_write_what_does_not_fit(value: Struct, message: str) -> None:
    """A value past its field is a mistake, and is never cut."""
    with pytest.raises(UsageError) as caught:
        value.encode()
    assert str(caught.value) == message


def test_overlap() -> None:
    """A table whose fields overlap is no class."""
    with pytest.raises(TypeError, match=r"^bad\.second: overlaps the field before it, or passes the end$"):

        @layout("bad", 4)
        class Bad(Struct):
            first: int = at(0, U16)
            second: int = at(1, U16)


def test_past_the_end() -> None:
    """A table whose field passes the end is no class."""
    with pytest.raises(TypeError, match=r"^bad\.end: overlaps the field before it, or passes the end$"):

        @layout("bad", 4)
        class Bad(Struct):
            first: int = at(2, U32)


def test_without_gaps() -> None:
    """A table may claim every byte, in one field or in more."""

    @layout("whole", 2)
    class Whole(Struct):
        value: int = at(0, U16)

    @layout("empty", 2)
    class Empty(Struct):
        """Nothing but reserved bytes."""

    assert Whole.parse(b"\x01\x02").value == 0x0201
    assert Empty.parse(bytes(2)).encode() == bytes(2)


@PROPERTY
@given(st.binary(min_size=24, max_size=24))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes."""
    try:
        parsed = Outer.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data


@layout("big", 6, byte_order="big")
class Big(Struct):
    """Integers of the other order."""

    word: int = at(0, U32)
    half: int = at(4, U16)


def test_big_endian() -> None:
    """A table may say that its integers are big-endian."""
    data = bytes.fromhex("000000010203")
    assert Big.parse(data) == Big(word=1, half=0x0203)
    assert Big.parse(data).encode() == data
