"""The program of a guest: start the platform, then the agent, in one process.

The guest's first program (``native/init``) starts it, and powers off when it ends. One interpreter does both
steps, because on an emulated processor a second one would take seconds to start. While the platform starts,
it imports the rest. The process that starts the platform is its fork.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from kluis import imports
from kluis.errors import KluisError
from kluis.tee.vm.words import AGENT


def main() -> int:
    """Start the platform for the whole life of the guest, have a TEE endorse its root, and run the agent.

    Returns:
        The exit code of an error, whose one line is on the console: the host has no other log of the guest.
    """
    try:
        with imports.quick():
            from kluis.tee.platform.start import Starting
            from kluis.tee.process import native
        starting = Starting(Path(native.PYTHON))
        # These imports take seconds on an emulated processor, in which the platform starts on another one.
        with imports.quick():
            from kluis.tee.inside import agent, endorsing, ports  # noqa: F401 - the agent's program needs them
        starting.finish()
        _say("the platform runs")
        _say(endorsing.endorse())
    except KluisError as error:
        _say(error.message + (f"; {error.hint}" if error.hint else ""))
        return error.exit_code
    runpy.run_module(AGENT, run_name="__main__")
    return 0


def _say(words: str) -> None:
    sys.stdout.write(f"kluis: {words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
