"""An ecall with a table of 100 MB against memcpy of 100 MB to a fresh destination."""

from __future__ import annotations

import numpy
import pyarrow

from bench.harness import Harness, Row, timed
from bench.images import image
from kluis.enclave import Table
from kluis.host import load

COLUMNS = 10
ROWS = 1_250_000
TABLE_BYTES = COLUMNS * ROWS * 8


def rows(take: Harness) -> list[Row]:
    """One row: the whole call, from the host's table to the answer."""
    spread = numpy.random.default_rng(11)
    columns = {f"c{number}": spread.integers(0, 1 << 60, ROWS) for number in range(COLUMNS)}
    table = Table(pyarrow.table(columns))
    source = numpy.ones(TABLE_BYTES, dtype=numpy.uint8)
    with load(image("table")) as enclave:
        enclave.rows(table)
        row = take.compare(
            "ecall with a 100 MB table",
            "memcpy of 100 MB to a fresh destination",
            1.5,
            ours=lambda: timed(lambda: enclave.rows(table)),
            theirs=lambda: timed(source.copy),
            rounds=take.rounds * 2,
        )
    return [row]
