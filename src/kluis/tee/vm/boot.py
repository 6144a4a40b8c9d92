"""The program of a guest: start the platform, then the agent, in one process.

The guest's first program (``native/init``) starts it, and powers off when it ends. One interpreter does both
steps, because on an emulated processor a second one would take seconds to start.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Final

from kluis.tee.platform import start
from kluis.tee.process import native

AGENT: Final = "kluis.tee.vm.inside"


def main() -> None:
    """Start the platform for the whole life of the guest, and run the agent until it ends."""
    start.start(base=Path(native.PYTHON))
    runpy.run_module(AGENT, run_name="__main__")


if __name__ == "__main__":
    main()
