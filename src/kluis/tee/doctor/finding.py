"""One thing that was looked for on this machine: what was seen, whether it suffices, and how to mend it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class State(StrEnum):
    """Worst first."""

    MISSING = "missing"
    """An enclave of this user cannot start without it, or starts with the lack in its evidence."""

    OPEN = "open"
    """Left open to root, or to everyone; an enclave starts all the same."""

    ABSENT = "absent"
    """Not here, and not needed for process enclaves."""

    PARTIAL = "partial"
    """Here, and not whole."""

    OK = "ok"
    """Here, tried, works; or closed."""


class Part(StrEnum):
    """The parts of the table."""

    PROCESS = "process enclaves"
    VM = "virtual machines"
    HARDWARE = "hardware"
    OPEN = "left open to root"
    SELFTEST = "self-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        part: where it stands in the table.
        name: what was looked for.
        state: what to make of it.
        seen: what was found, in words, with numbers where there are some.
        fix: the command or file that changes it; None where nothing needs to, or nothing can.
    """

    part: Part
    name: str
    state: State
    seen: str
    fix: str | None = None


def setting(path: str) -> str | None:
    """Read one line of a kernel setting; None where it is not there or may not be read."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def is_root() -> bool:
    """Tell whether this process runs as root."""
    return os.geteuid() == 0
