"""The backends by name, and the one that is used if none is named."""

from __future__ import annotations

from kluis.tee.backend import Backend
from kluis.tee.platform.client import Platform


def default() -> Backend:
    """This machine's platform, started if none runs.

    Raises:
        UnavailableError: none runs, and none could be started.
    """
    return Platform.connect()
