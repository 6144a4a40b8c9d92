"""Bounds on the processor's time, scaled to the machine: they limit an algorithm, not a computer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

REFERENCE_SECONDS = 0.006
"""What :func:`_work` takes on the machine that the bounds were set on, when it is idle."""


@contextlib.contextmanager
def within(seconds: float, what: str = "it") -> Iterator[None]:
    """Fail if the block takes more of the processor's time than ``seconds``.

    Processor time is not wall-clock time, but it grows too: on a slower machine, and where others use the
    same caches and cores. So a block that takes longer is compared with fixed work, measured right after it:
    twice the bound, times how much slower that work is than on the reference machine. What these bounds
    stop is work that grows with the square of its input, which exceeds them many times over.
    """
    begun = time.process_time()
    yield
    took = time.process_time() - begun
    if took > seconds:
        slower = max(1.0, *(_work() / REFERENCE_SECONDS for _ in range(20)))
        most = 2 * seconds * slower
        assert took <= most, f"{what}: took {took:.1f} s of the processor, want at most {most:.1f} s"


def _work() -> float:
    begun, kept = time.process_time(), dict[int, str]()
    for number in range(60_000):
        kept[number % 977] = str(number)
    return time.process_time() - begun
