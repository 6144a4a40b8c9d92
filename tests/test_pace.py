"""A bound on work: fixed work keeps within it on any machine, and work that outgrows it does not."""

from __future__ import annotations

import time

import pytest

from tests.pace import within


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_work_beyond_its_bound_fails() -> None:
    """A block that takes hundreds of times its bound fails, whatever the machine."""
    with pytest.raises(AssertionError, match="spinning: took"), within(0.001, "spinning"):
        spin(1.0)


def test_waiting_is_not_work() -> None:
    """A block that waits for others takes no time of the processor."""
    with within(0.25):
        time.sleep(0.5)


def test_an_error_of_the_block_is_the_error() -> None:
    """What a block raises is not replaced by a word on its time."""
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError, match="missing"), within(0.0):
        nothing["missing"]
