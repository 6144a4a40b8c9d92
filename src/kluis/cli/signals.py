"""Signals of a command that serves: SIGTERM and Ctrl-C stop it, SIGHUP replaces its enclaves."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Asked:
    """What signals requested; ``ready`` once there is something for a stop to finish."""

    ready = False
    stop = False
    replace = False

    def __init__(self) -> None:
        self.wake = threading.Event()

    def hear(self, number: int) -> None:
        """Note one signal."""
        if number == signal.SIGHUP:
            self.replace = True
        else:
            self.stop = True
        self.wake.set()


@contextlib.contextmanager
def listening() -> Iterator[Asked]:
    """Note signals for as long as the ``with`` lasts; a stop before ``ready`` is a KeyboardInterrupt."""
    requests = Asked()

    def hear(number: int, frame: FrameType | None) -> None:
        requests.hear(number)
        if requests.stop and not requests.ready:
            raise KeyboardInterrupt  # nothing serves yet: there is nobody to finish for

    before = {
        number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
