"""An ecall with a table of 100 MB, compared with memcpy of 100 MB to a fresh destination.

The peer is malloc and memcpy, as in C, with pages of 4 KiB. numpy's own copy uses huge pages, which a memory
file only gets if /sys/kernel/mm/transparent_hugepage/shmem_enabled allows them; it is an additional figure.
"""

from __future__ import annotations

import numpy
import pyarrow

from bench.harness import Harness, Row, duration, timed
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
    view = memoryview(source)
    with load(image("table")) as enclave:
        enclave.rows(table)
        row = take.compare(
            "ecall with a 100 MB table",
            "memcpy of 100 MB to a fresh destination",
            1.5,
            ours=lambda: timed(lambda: enclave.rows(table)),
            theirs=lambda: timed(lambda: bytes(view)),
            rounds=take.rounds * 2,
            also=lambda: {"numpy's copy, in huge pages": duration(min(timed(source.copy) for _ in range(5)))},
        )
    return [row]
