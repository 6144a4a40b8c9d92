"""Words of Kluis on the command line of a guest's kernel, which is measured, and the name of its agent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError

ONLY: Final = "kluis.only="
"""The image id of the only image that the machine runs, 64 hex digits."""
MISSING: Final = "kluis.missing="
"""Names of protections that the machine does not have, with commas between them."""
COMMAND_LINE: Final = Path("/proc/cmdline")
AGENT: Final = "kluis.tee.inside"
"""The module of the agent, which the guest's program runs."""


def find(word: str, command_line: str) -> str | None:
    """What follows a word; None if it is not there.

    Raises:
        UnavailableError: it is there twice.
    """
    values = [part.removeprefix(word) for part in command_line.split() if part.startswith(word)]
    if len(values) > 1:
        raise UnavailableError(
            f"machine: {word}: want it once on the kernel's command line, got {len(values)} times"
        )
    return values[0] if values else None
