"""DuckDB inside against DuckDB outside: a group-by over ten million rows, second run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from bench.harness import Harness, Row, duration
from bench.images import image
from kluis.host import load

ROWS = 10_000_000
THREADS = 2
APP = Path(__file__).resolve().parents[1] / "apps" / "science"
OUTSIDE = "import json, workload; print(json.dumps(workload.group_by({rows}, {threads})))"


def rows(take: Harness) -> list[Row]:
    """One row: the median of the runs after the first, of each side over its own table."""
    first: list[float] = []
    with load(image("science")) as enclave:

        def inside() -> float:
            seconds = enclave.group_by(ROWS, THREADS)
            first.append(seconds[0])
            return statistics.median(seconds[1:])

        row = take.compare(
            "DuckDB group-by over 10 million rows inside, second run",
            "the same outside",
            1.10,
            ours=inside,
            theirs=outside,
            rounds=max(3, take.rounds // 2),
            also=lambda: {"first run inside": duration(statistics.median(first))},
        )
    return [row]


def outside() -> float:
    """The same work in a plain Python process."""
    program = OUTSIDE.format(rows=ROWS, threads=THREADS)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=APP, capture_output=True, text=True, check=True
    )
    return statistics.median(json.loads(done.stdout)[1:])
