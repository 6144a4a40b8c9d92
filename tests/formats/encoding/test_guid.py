"""GUIDs: text to the bytes that firmware writes, and back."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from kluis.formats.encoding import guid
from tests.strategies import PROPERTY


@PROPERTY
@given(st.binary(min_size=guid.SIZE, max_size=guid.SIZE))
def test_as_the_standard_library(data: bytes) -> None:
    """Both ways agree with ``uuid``'s little-endian form."""
    text = guid.decode(data)
    assert text == str(uuid.UUID(bytes_le=data))
    assert guid.encode(text) == data
