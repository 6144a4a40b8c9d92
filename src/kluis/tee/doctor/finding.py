"""One finding about this machine: what was seen, whether it suffices, and how to fix it."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from kluis.frozen import frozen


class State(StrEnum):
    """The states of a finding, worst first."""

    MISSING = "missing"
    """An enclave of this user cannot start without it, or its evidence states that it is missing."""

    OPEN = "open"
    """Accessible to root, or to everyone; enclaves start anyway."""

    ABSENT = "absent"
    """Not present, and not needed for process enclaves."""

    PARTIAL = "partial"
    """Present, but incomplete."""

    OK = "ok"
    """Present, tested and working; or closed."""


class Part(StrEnum):
    """The parts of the table."""

    PROCESS = "process enclaves"
    VM = "virtual machines"
    HARDWARE = "hardware"
    OPEN = "left open to root"
    SELFTEST = "self-test"


@frozen(kw_only=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        part: of the table.
        name: of the check.
        state: the result.
        seen: what was found, in words and numbers.
        fix: the command or file that changes it; None if nothing needs to be changed, or nothing can.
    """

    part: Part
    name: str
    state: State
    seen: str
    fix: str | None = None


def setting(path: str) -> str | None:
    """Read one line of a kernel setting; None if it does not exist or cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def flags() -> frozenset[str]:
    """The processor's flags, as reported by the kernel."""
    for line in (setting("/proc/cpuinfo") or "").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0
