"""Measure ratios: on a quiet machine, ours and theirs alternating, the median of the rounds' ratios."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

QUIET_BUSY = 0.10
QUIET_LOOK_SECONDS = 1.0

Measure = Callable[[], float]
"""Runs a measured task once and returns its seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: ours over theirs, so less is better, and the maximum allowed.

    Attributes:
        rounds: how many times each was run; the ratio is the median of the rounds' ratios.
        ours: the median of ours, in ``unit``.
        theirs: the median of theirs, in ``unit``.
        also: other figures of the same run, in words.
        noisy: the machine never became quiet while this row waited for it.
        unit: of both medians: ``s``, or another.
    """

    name: str
    against: str
    ratio: float
    hold: float
    rounds: int
    ours: float
    theirs: float
    also: dict[str, str] = field(default_factory=dict)
    noisy: bool = False
    unit: str = "s"

    @property
    def held(self) -> bool:
        """Whether the ratio is at most the allowed one."""
        return self.ratio <= self.hold


class Harness:
    """Measures ratios.

    Args:
        rounds: how often each side runs; a row may set another number.
        patience_seconds: how long to wait for a quiet machine before each row.
    """

    def __init__(self, rounds: int, patience_seconds: float) -> None:
        self.rounds = rounds
        self.patience_seconds = patience_seconds

    def compare(
        self,
        name: str,
        against: str,
        hold: float,
        *,
        ours: Measure,
        theirs: Measure,
        rounds: int | None = None,
        also: Callable[[], dict[str, str]] | None = None,
        unit: str = "s",
    ) -> Row:
        """Run both sides alternately; each goes first in every other round.

        Args:
            name: what is measured.
            against: the peer that it is measured against, run here and now.
            hold: the maximum allowed ratio.
            ours: runs ours once.
            theirs: runs theirs once.
            rounds: instead of the harness's own.
            also: additional figures for the row, computed after all rounds.
            unit: of what both sides return.
        """
        noisy = not wait_for_quiet(self.patience_seconds)
        pairs = []
        for turn in range(rounds or self.rounds):
            if turn % 2:
                mine, other = ours(), theirs()
            else:
                other, mine = theirs(), ours()
            pairs.append((mine, other))
        return Row(
            name=name,
            against=against,
            ratio=round(statistics.median(mine / other for mine, other in pairs), 3),
            hold=hold,
            rounds=len(pairs),
            ours=statistics.median(mine for mine, _ in pairs),
            theirs=statistics.median(other for _, other in pairs),
            also=also() if also else {},
            noisy=noisy,
            unit=unit,
        )


def timed(work: Callable[[], object]) -> float:
    """The seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def wait_for_quiet(patience_seconds: float) -> bool:
    """Wait until the processors are nearly idle.

    Returns:
        Whether they were, within ``patience_seconds``.
    """
    end = time.monotonic() + patience_seconds
    while True:
        before = _ticks()
        time.sleep(QUIET_LOOK_SECONDS)
        after = _ticks()
        total = sum(after) - sum(before)
        idle = (after[3] + after[4]) - (before[3] + before[4])
        if total and 1 - idle / total < QUIET_BUSY:
            return True
        if time.monotonic() > end:
            return False


def _ticks() -> list[int]:
    first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    return [int(word) for word in first.split()[1:9]]


PACKAGES = (
    "kluis",
    "cryptography",
    "polars",
    "duckdb",
    "pyarrow",
    "scikit-learn",
    "numpy",
    "dcap-qvl",
    "awscrt",
)


def machine() -> dict[str, object]:
    """Describe this machine, as far as it affects speed."""
    info = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[0].split()[1]
    hypervisor = any("hypervisor" in line for line in info.splitlines() if line.startswith("flags"))
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / (1 << 20), 1),
        "virtual": hypervisor,
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def as_json(row: Row, description: dict[str, object]) -> dict[str, object]:
    """A row as JSON, with the machine it was measured on."""
    return {**asdict(row), "held": row.held, "machine": description}


def as_table(rows: list[Row]) -> str:
    """The rows as a text table."""
    head = ("what", "against", "ratio", "hold", "", "ours", "theirs")
    lines = [
        (
            row.name,
            row.against,
            f"{row.ratio:.2f}",
            f"{row.hold:.2f}",
            ("held" if row.held else "OVER") + (" (noisy)" if row.noisy else ""),
            amount(row.ours, row.unit),
            amount(row.theirs, row.unit),
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    text = []
    for line, row in zip([head, *lines], [None, *rows], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text.append("  ".join(cells).rstrip())
        if row:
            text += [f"    {what}: {figure}" for what, figure in row.also.items()]
    return "\n".join(text)


def amount(value: float, unit: str) -> str:
    """A median, formatted for people."""
    return duration(value) if unit == "s" else f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Seconds, formatted for people."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
