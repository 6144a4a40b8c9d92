"""The cursor: every read is bounded and named."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError
from kluis.formats.encoding.reader import Reader


def test_reads() -> None:
    """Integers are little-endian, a part is a separate cursor, and the end is detected."""
    r = Reader(bytes(range(1, 20)), "thing")
    assert (r.u8("a"), r.u16("b"), r.u32("c"), r.u64("d")) == (1, 0x0302, 0x07060504, 0x0F0E0D0C0B0A0908)
    part = r.sub(2, "part")
    assert (part.take(2, "all"), part.left, r.position, r.left) == (b"\x10\x11", 0, 17, 2)
    part.end()
    assert r.take(2, "rest") == b"\x12\x13"
    r.end()


def test_refusals() -> None:
    """Each error states what, where and how much."""
    r = Reader(b"\0\1\2", "thing", base=16)
    with pytest.raises(FormatError, match=r"^thing\.word at 0x10: needs 4 bytes, 3 left$") as short:
        r.u32("word")
    with pytest.raises(FormatError, match=r"^thing\.reserved at 0x11: must be zero, found 0x01$") as full:
        r.zeros(2, "reserved")
    with pytest.raises(FormatError, match=r"^thing at 0x12: 1 bytes after the end$") as long:
        r.end()
    with pytest.raises(FormatError, match=r"^thing\.padding at 0x12: must be zero, found 0x02$") as padded:
        r.zeros(1, "padding")
    codes = [caught.value.code for caught in (short, full, long, padded)]
    assert codes == ["truncated", "bad_encoding", "trailing_data", "trailing_data"]


def test_big_endian() -> None:
    """A cursor may read integers of the other order; its parts do as well."""
    r = Reader(bytes(range(1, 20)), "thing", byte_order="big")
    assert (r.u16("a"), r.u32("b"), r.u64("c")) == (0x0102, 0x03040506, 0x0708090A0B0C0D0E)
    assert r.sub(2, "part").u16("all") == 0x0F10


def test_fields() -> None:
    """Typed fields are read to the end; a cut one, and one too many, are refused."""
    data = bytes.fromhex("0100 0200 aabb 0200 0000")
    assert Reader(data, "thing").fields("field", 2) == [(1, b"\xaa\xbb"), (2, b"")]
    for cut in (1, 3, 5, 7):
        with pytest.raises(FormatError) as caught:
            Reader(data[:cut], "thing").fields("field", 2)
        assert caught.value.code == "truncated"
    with pytest.raises(FormatError) as caught:
        Reader(data, "thing").fields("field", 1)
    assert caught.value.code == "too_large"


def test_three_bytes() -> None:
    """An integer of 3 bytes follows the cursor's order, too."""
    assert Reader(b"\1\2\3", "thing", byte_order="big").u24("field") == 0x010203
    assert Reader(b"\1\2\3", "thing").u24("field") == 0x030201
