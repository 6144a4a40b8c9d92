"""Stay in the foreground while a platform runs: the first process of a container, which ends with it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

from kluis.errors import UnavailableError
from kluis.tee import places as where
from kluis.tee.platform import start as starting

LOOK_SECONDS: Final = 2.0
STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


def stay() -> None:
    """Wait until a signal stops the platform.

    Raises:
        UnavailableError: the platform ended by itself.
    """
    places = where.mine()
    sys.stdout.flush()
    wanted = {*STOPS, signal.SIGCHLD}
    # A default action would end this process before it has stopped the platform. The first process of a
    # container has no default actions.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    try:
        while True:
            heard = signal.sigtimedwait(wanted, LOOK_SECONDS)
            if heard is not None and heard.si_signo in STOPS:
                starting.stop(places)
                return
            if os.getpid() == 1:
                _reap()
            if not starting.answers(places):
                raise UnavailableError(
                    "platform: ended by itself", hint=f"its log is {places.runtime / 'platform.log'}"
                )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap() -> None:
    """Collect the orphans of a container, which its first process inherits."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return
