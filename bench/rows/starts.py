"""Start an enclave, compared with starting Python, and with importing the same libraries outside."""

from __future__ import annotations

import subprocess
import sys

from bench.harness import Harness, Row, duration, timed
from bench.images import image
from kluis.host import load
from kluis.tee.platform.client import Platform

IMPORTS = "import numpy, polars, duckdb, sklearn, pyarrow"


def rows(take: Harness) -> list[Row]:
    """Two rows, each with the first start of a fresh platform as an additional figure."""
    bare = [sys.executable, "-I", "-S", "-c", "pass"]
    imports = [sys.executable, "-I", "-c", IMPORTS]
    return [
        _starts(take, "empty", "second start of a stdlib-only image", "python -I -S -c pass", bare, 12.0),
        _starts(
            take,
            "science",
            "second start with numpy, polars, duckdb, sklearn imported",
            "importing them outside",
            imports,
            1.5,
        ),
    ]


def _starts(take: Harness, name: str, what: str, against: str, command: list[str], hold: float) -> Row:
    built = image(name)
    Platform.connect().stop()
    Platform.connect()
    first = timed(lambda: load(built).close())

    def start() -> float:
        enclave = None

        def ready() -> None:
            nonlocal enclave
            enclave = load(built)

        seconds = timed(ready)
        if enclave is not None:
            enclave.close()
        return seconds

    start()
    return take.compare(
        what,
        against,
        hold,
        ours=start,
        theirs=lambda: timed(lambda: subprocess.run(command, check=True)),
        also=lambda: {"first start, platform fresh": duration(first)},
    )
