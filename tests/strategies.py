"""Hypothesis strategies: good bytes, changed. Random bytes never get past a size and a version."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

FULL = 200
"""Examples of a property in the profile ``full``."""


def examples(full: int) -> int:
    """How many examples the profile in use wants of a property that has ``full`` in the profile ``full``."""
    return max(full * settings().max_examples // FULL, 5)


PROPERTY = settings(max_examples=examples(FULL), derandomize=True, deadline=None)


@st.composite
def mutations(draw: st.DrawFn, *goods: bytes, most: int = 3) -> bytes:
    """One of ``goods``, changed in one to ``most`` places, mostly by flipping a bit."""
    data = bytearray(draw(st.sampled_from(goods)))
    for _ in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from(("flip", "flip", "flip", "set", "cut", "insert", "delete", "repeat")))
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        if kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif not data:
            continue
        elif kind == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            data[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))
        elif kind == "cut":
            del data[at:]
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 4))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)
