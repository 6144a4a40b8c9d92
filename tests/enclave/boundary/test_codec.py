"""One function's frames: typed and bounded, with the place of a fault in every message."""

from __future__ import annotations

import contextlib
import gc
import os
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given

from kluis.enclave import Table
from kluis.enclave.boundary import frames, memfile
from kluis.enclave.boundary.codec import Codec, Limits
from kluis.enclave.boundary.frames import Parcel
from kluis.enclave.boundary.interface import parse_signature
from kluis.errors import FormatError, UsageError
from tests.strategies import PROPERTY, mutations


def pay(amount: Annotated[int, msgspec.Meta(ge=0)], who: list[str], note: bytes) -> float:
    return 1.0


def look(table: Table, deep: int, other: Table) -> Table:
    return table


LIMITS = Limits(message_bytes=1000, table_bytes=100_000)
PAY = Codec(parse_signature(pay), 5, frames.RETURN, LIMITS)
LOOK = Codec(parse_signature(look), 6, frames.RETURN, LIMITS)
TABLE = Table({"a": [1, 2]})


def test_call_there_and_back() -> None:
    """Arguments arrive as they were sent."""
    frame, files = PAY.encode_call(7, (3, ["x"], b"n"))
    assert files == ()
    assert msgspec.msgpack.decode(frame) == [5, 7, 3, ["x"], b"n"]
    assert PAY.decode_call(Parcel(frame)) == (3, ["x"], b"n")


WRONG: dict[str, tuple[list[Any], str]] = {
    "another type": ([5, 7, "3", [], b""], "pay.amount: want int, got str"),
    "inside a list": ([5, 7, 3, ["a", 1], b""], "pay.who[1]: want str, got int"),
    "out of bounds": ([5, 7, -1, [], b""], "pay.amount: want int >= 0"),
    "an argument less": ([5, 7, 3, []], "pay: want 3 values, got fewer"),
    "an argument more": ([5, 7, 3, [], b"", 1], "pay: want 3 values, got more"),
    "no call id": ([5, 0, 3, [], b""], "pay.call: want int >= 1"),
    "another function": ([4, 7, 3, [], b""], "pay.kind: invalid value 4"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_call(case: str) -> None:
    """Values of other types are refused, with their position."""
    items, message = WRONG[case]
    with pytest.raises(FormatError) as refused:
        PAY.decode_call(Parcel(frames.encode(items)))
    assert refused.value.message == message


def test_the_sender_is_told_too() -> None:
    """The same fault is found before the frame is sent."""
    frame, _ = PAY.encode_call(7, ("3", [], b""))
    with pytest.raises(UsageError) as refused:
        PAY.check_call(frame)
    assert refused.value.message == "pay.amount: want int, got str"


def test_too_large() -> None:
    """A message past the bound is refused where it is made."""
    with pytest.raises(UsageError) as refused:
        PAY.encode_call(1, (1, [], bytes(1000)))
    assert refused.value.message == "pay: want at most 1000 bytes, got 1008"


def test_cannot_be_encoded() -> None:
    """A value that has no wire form is the caller's fault."""
    with pytest.raises(UsageError, match=r"^pay: "):
        PAY.encode_call(1, (1, [object()], b""))
    with pytest.raises(UsageError, match=r"^pay: "):
        PAY.encode_call(1, (2**70, [], b""))


def test_result_is_checked_where_it_is_made() -> None:
    """A result of another type does not leave."""
    with pytest.raises(UsageError) as refused:
        PAY.encode_result(1, "a secret")
    assert refused.value.message == "pay result: want float, got str"


def _open_files() -> frozenset[tuple[str, str]]:
    """The open descriptors, and what they are of. Threads of other tests may close some meanwhile."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # such as the one that lists them
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return frozenset(found)


def test_tables_there_and_back() -> None:
    """Tables go as files, in order, and every descriptor is closed again."""
    before = _open_files()
    frame, files = LOOK.encode_call(1, (TABLE, 5, {"b": [3]}))
    assert LOOK.decode_call(Parcel(frame, files)) == (TABLE, 5, Table({"b": [3]}))
    frame, files = LOOK.encode_result(1, TABLE)
    assert LOOK.decode_result(Parcel(frame, files)) == TABLE
    assert not _open_files() - before


@pytest.mark.parametrize(
    ("numbers", "count", "message"),
    [
        ((0, 1), 1, "look: want 2 tables, got 1"),
        ((0, 1), 3, "look: want 2 tables, got 3"),
        ((1, 0), 2, "look.table: want file 0, got 1"),
        ((0, 0), 2, "look.other: want file 1, got 0"),
    ],
)
def test_wrong_files(numbers: tuple[int, int], count: int, message: str) -> None:
    """A file too many, too few or out of order is refused, and all are closed."""
    before = _open_files()
    files = tuple(memfile.of_table(TABLE) for _ in range(count))
    with pytest.raises(FormatError) as refused:
        LOOK.decode_call(Parcel(frames.encode([6, 1, numbers[0], 5, numbers[1]]), files))
    assert refused.value.message == message
    del refused  # holds the mapping of the file that was good
    assert not _open_files() - before


def test_files_where_none_belong() -> None:
    """A descriptor that comes with a call that takes none is refused and closed."""
    before = _open_files()
    with pytest.raises(FormatError) as refused:
        PAY.decode_call(Parcel(frames.encode([5, 7, 3, [], b""]), (memfile.of_bytes(b"x"),)))
    assert refused.value.message == "pay: want 0 tables, got 1"
    assert not _open_files() - before


class Deep(msgspec.Struct, array_like=True):
    inner: list[Deep] = []


def dig(deep: Deep) -> None: ...


@pytest.mark.parametrize("depth", [20_000, 1_000_000])
def test_deep_nesting(depth: int) -> None:
    """A message nested past what the interpreter follows is refused, and nothing overflows."""
    codec = Codec(parse_signature(dig), 0, frames.RETURN, LIMITS)
    frame = b"\x93\x00\x01" + b"\x91\x91" * depth + b"\x90"
    with pytest.raises(FormatError) as refused:
        codec.decode_call(Parcel(frame))
    assert refused.value.message.startswith("dig")


@PROPERTY
@given(mutations(frames.encode([5, 7, 3, ["x", "yy"], b"note"]), most=5))
def test_decodes_or_refuses(data: bytes) -> None:
    """Whatever is decoded is of the declared types; only our error escapes."""
    try:
        amount, who, note = PAY.decode_call(Parcel(data))
    except FormatError:
        return
    assert type(amount) is int
    assert amount >= 0
    assert all(type(one) is str for one in who)
    assert type(note) is bytes
