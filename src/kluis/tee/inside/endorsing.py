"""Have the guest's TEE endorse its platform, as the kernel's command line states."""

from __future__ import annotations

from kluis import __version__
from kluis.tee.drivers import detect
from kluis.tee.platform import endorsing
from kluis.tee.platform.client import Platform
from kluis.tee.vm import words
from kluis.tee.vm.words import COMMAND_LINE, MISSING, ONLY


def endorse() -> str:
    """Have the first driver that is available endorse the platform's root; return what happened, in words.

    Raises:
        UnavailableError: the TEE refuses.
    """
    if (driver := detect()) is None:
        return "no TEE endorses its root"
    command_line = COMMAND_LINE.read_text()
    only = words.find(ONLY, command_line)
    endorsing.endorse(
        Platform.connect(start=False),
        driver,
        only=None if only is None else bytes.fromhex(only),
        release=__version__,
        missing=frozenset((words.find(MISSING, command_line) or "").split(",")) - {""},
    )
    return f"{driver.name} endorses its root"
