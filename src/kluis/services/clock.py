"""The services' clock: the one place in a service that asks what time it is.

Inside an enclave the answer is the host's word: it can make a token seem older or newer to the service,
and no signature that the service checks any truer.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...

    def pace(self) -> float:
        """Seconds of a clock that nobody sets, since some moment before this process began."""
        ...


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)

    def pace(self) -> float:
        """Seconds since this machine started, while it was awake."""
        return time.monotonic()
