"""The services' clock: the only place in a service that reads the time.

Inside an enclave the time comes from the host. A wrong time can make a token look older or newer to the
service, but cannot make a wrong signature valid.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Provides the time."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...

    def pace(self) -> float:
        """Seconds of a monotonic clock that cannot be set, since some moment before this process began."""
        ...


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)

    def pace(self) -> float:
        """Seconds since this machine started, not counting suspend."""
        return time.monotonic()
