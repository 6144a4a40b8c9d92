"""The program of a guest: start the platform, then the agent, in one process.

The guest's first program (``native/init``) starts it, and powers off when it ends. One interpreter does both
steps, because on an emulated processor a second one would take seconds to start.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from kluis import __version__
from kluis.errors import KluisError
from kluis.tee.drivers import detect
from kluis.tee.platform import start
from kluis.tee.platform.client import Platform
from kluis.tee.platform.endorsing import endorse
from kluis.tee.process import native
from kluis.tee.vm import words
from kluis.tee.vm.words import AGENT, COMMAND_LINE, MISSING, ONLY


def main() -> int:
    """Start the platform for the whole life of the guest, have a TEE endorse its root, and run the agent.

    Returns:
        The exit code of an error, whose one line is on the console: the host has no other log of the guest.
    """
    try:
        _start()
    except KluisError as error:
        sys.stdout.write(f"kluis: {error.message}" + (f"; {error.hint}" if error.hint else "") + "\n")
        sys.stdout.flush()
        return error.exit_code
    runpy.run_module(AGENT, run_name="__main__")
    return 0


def _start() -> None:
    start.start(base=Path(native.PYTHON))
    sys.stdout.write("kluis: the platform runs\n")
    if (driver := detect()) is None:
        sys.stdout.write("kluis: no TEE endorses its root\n")
    else:
        command_line = COMMAND_LINE.read_text()
        only = words.find(ONLY, command_line)
        endorse(
            Platform.connect(start=False),
            driver,
            only=None if only is None else bytes.fromhex(only),
            release=__version__,
            missing=frozenset((words.find(MISSING, command_line) or "").split(",")) - {""},
        )
        sys.stdout.write(f"kluis: {driver.name} endorses its root\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
