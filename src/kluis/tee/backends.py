"""The backends by name, and the default one."""

from __future__ import annotations

import os
from typing import Final

from kluis.tee.backend import Backend
from kluis.tee.platform.client import Platform

MACHINE: Final = "KLUIS_MACHINE"
"""The environment's name of a machine on this host, whose platform is used instead of the host's."""


def default() -> Backend:
    """This host's platform, started if none is running; or, by ``KLUIS_MACHINE``, a machine's.

    Raises:
        UnavailableError: none is running, and none could be started.
    """
    name = os.environ.get(MACHINE)
    return Platform.connect() if not name else of_machine(name)


def of_machine(name: str) -> Backend:
    """The platform of a machine that ``kluis vm start`` started on this host.

    Raises:
        UnavailableError: none of this name runs.
    """
    from kluis.tee.vm.machine import ondemand

    return ondemand.platform(name)
