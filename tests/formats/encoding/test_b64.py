"""Base64: one text for the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.encoding import b64
from tests.strategies import PROPERTY


@PROPERTY
@given(st.binary(max_size=64))
def test_there_and_back(data: bytes) -> None:
    """Both alphabets hold all bytes."""
    assert b64.decode(b64.encode(data), "value") == data
    assert b64.decode_url(b64.encode_url(data), "value") == data


def test_alphabets() -> None:
    """One pads and uses + and /, the other does neither."""
    assert b64.encode(b"\xfb\xff\xbe\xff") == "+/++/w=="
    assert b64.encode_url(b"\xfb\xff\xbe\xff") == "-_--_w"


@pytest.mark.parametrize("text", ["-_--_w==", "+/++/w", "+/++/x==", "+/++ /w==", "+/++/w==\n", "===", "é"])
def test_refused(text: str) -> None:
    """Another alphabet, no padding, set unused bits and white space are refused."""
    with pytest.raises(FormatError) as caught:
        b64.decode(text, "value")
    assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize("text", ["+/++/w", "-_--_w==", "-_--_x", "-_-- _w", "A", "é"])
def test_refused_url(text: str) -> None:
    """So they are in the alphabet of URLs."""
    with pytest.raises(FormatError) as caught:
        b64.decode_url(text, "value")
    assert caught.value.code == "bad_encoding"
