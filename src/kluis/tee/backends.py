"""The backends by name, and the default one."""

from __future__ import annotations

from kluis.tee.backend import Backend
from kluis.tee.platform.client import Platform


def default() -> Backend:
    """This machine's platform, started if none is running.

    Raises:
        UnavailableError: none is running, and none could be started.
    """
    return Platform.connect()
