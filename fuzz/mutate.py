"""The engine where there is no other: good inputs, changed, without looking at what they reach."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

_VALUES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Change ``data`` in one to four places: bits, bytes, lengths, cuts, and pieces of ``other``."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(9):
            case 0 | 1 | 2 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 3 if at < len(changed):
                changed[at] = chance.choice(_VALUES)
            case 4:
                del changed[at:]
            case 5:
                del changed[at : at + chance.randint(1, 16)]
            case 6:
                changed[at:at] = changed[at : at + chance.randint(1, 64)]
            case 7:
                start = chance.randrange(len(other) + 1)
                changed[at:at] = other[start : start + chance.randint(1, 64)]
            case _:
                changed[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\0\0\1\0"))
    return bytes(changed)


def run(read: Callable[[bytes], object], good: Sequence[bytes], seconds: float, seed: int) -> int:
    """Feed changed inputs for ``seconds``; gives how many. What ``read`` raises ends it."""
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        for _ in range(50):
            read(mutated(chance.choice(good), chance.choice(good), chance))
            count += 1
    return count
