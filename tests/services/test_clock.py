"""The services' clock."""

from __future__ import annotations

from datetime import UTC, datetime

from kluis.services.clock import SystemClock


def test_it_tells_the_time() -> None:
    """The system's clock tells this machine's time, in UTC."""
    before = datetime.now(UTC)
    told = SystemClock().now()
    assert told.tzinfo is UTC
    assert before.replace(microsecond=0) <= told <= datetime.now(UTC)
