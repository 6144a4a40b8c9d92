"""The services' clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kluis.services.clock import SystemClock


def test_it_tells_the_time() -> None:
    """The system's clock tells this machine's time, in UTC."""
    told = SystemClock().now()
    assert told.tzinfo is UTC
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)
