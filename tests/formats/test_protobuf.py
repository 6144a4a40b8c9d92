"""Protocol buffers: read in one way, to the end."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.encoding import protobuf
from kluis.formats.encoding.protobuf import Field
from tests.strategies import PROPERTY, mutations

GOOD = bytes.fromhex("0896 01 12 02 6869 1d 01000000 21 0200000000000000".replace(" ", ""))


def test_fields() -> None:
    """Numbers, bytes, and both fixed sizes."""
    found = protobuf.fields(GOOD, "message")
    assert found == [Field(1, 150), Field(2, b"hi"), Field(3, 1), Field(4, 2)]
    assert found[1].octets("message") == b"hi"
    assert found[0].integer(150, "message") == 150


@pytest.mark.parametrize(
    "data",
    [
        "08",
        "0880",
        "088000",
        "08ffffffffffffffffff02",
        "0b",
        "0c",
        "0e",
        "00",
        "1202aa",
        "1d00",
        "f8ffffff7f00",
    ],
)
def test_refused(data: str) -> None:
    """Cut short, not minimal, past 64 bits, groups, number 0."""
    with pytest.raises(FormatError):
        protobuf.fields(bytes.fromhex(data), "message")


def test_kinds() -> None:
    """Bytes are no number, and a number is no bytes, nor past its limit."""
    with pytest.raises(FormatError):
        Field(1, 5).octets("message")
    for field in (Field(1, b""), Field(1, 6)):
        with pytest.raises(FormatError):
            field.integer(5, "message")


def test_bound() -> None:
    """At most 4096 fields."""
    with pytest.raises(FormatError) as caught:
        protobuf.fields(b"\x08\x00" * 4097, "message")
    assert caught.value.code == "too_large"


@PROPERTY
@given(mutations(GOOD))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        protobuf.fields(data, "message")
    except FormatError:
        return
