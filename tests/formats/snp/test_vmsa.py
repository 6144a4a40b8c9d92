"""The save area: a page whose named fields are where the manual's table has them."""

from __future__ import annotations

import dataclasses

from hypothesis import given

from kluis.errors import KluisError
from kluis.formats.snp.vmsa import SIZE, SaveArea, Segment
from tests.strategies import PROPERTY, mutations

SEGMENT = Segment(selector=0xF000, attributes=0x9B, limit=0xFFFF, base=0xFFFF0000)
MADE = SaveArea(
    **{
        field.name: SEGMENT if index < 10 else index
        for index, field in enumerate(dataclasses.fields(SaveArea))
    }
)
GOOD = MADE.encode()


def test_places() -> None:
    """Segments come first, 16 bytes each; the rest is where the manual puts it."""
    assert SaveArea.parse(GOOD) == MADE
    assert len(GOOD) == SIZE == 4096
    assert GOOD[0x10:0x20] == bytes.fromhex("00f09b00ffff00000000ffff00000000")
    places = {"efer": 0xD0, "cr0": 0x158, "rip": 0x178, "rdx": 0x310, "sev_features": 0x3B0, "x87_fcw": 0x410}
    for name, offset in places.items():
        assert GOOD[offset] == getattr(MADE, name)


@PROPERTY
@given(mutations(GOOD))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = SaveArea.parse(data)
    except KluisError:
        return
    assert read.encode() == data
