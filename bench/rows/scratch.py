"""1 GiB written to encrypted scratch and read back, compared with a plain tmpfs outside.

Both overwrite an existing file, so that no page is new to either; an additional figure is the time of the
first write, when the kernel makes the pages. Both run the same Python.
"""

from __future__ import annotations

import shutil
import tempfile

from bench.apps.scratch import workload
from bench.harness import Harness, Row
from bench.images import image
from kluis.host import load

TOTAL = 1 << 30
PIECE = 1 << 20
SMALL = 8 << 10


def rows(take: Harness) -> list[Row]:
    """One row: writing and reading, in pieces of 1 MiB; additional figures: each separately, and pieces of 8
    KiB.
    """
    plain = tempfile.mkdtemp(prefix="kluis-bench-", dir="/dev/shm")
    try:
        with load(image("scratch")) as enclave:
            first = {
                "inside, the first time": rates(enclave.write_and_read(TOTAL, PIECE)),
                "tmpfs, the first time": rates(workload.write_and_read(plain, TOTAL, PIECE)),
            }
            row = take.compare(
                "1 GiB written to encrypted scratch and read back",
                "the same in a plain tmpfs outside",
                2.0,
                ours=lambda: sum(enclave.write_and_read(TOTAL, PIECE)),
                theirs=lambda: sum(workload.write_and_read(plain, TOTAL, PIECE)),
                also=lambda: {
                    **first,
                    "inside": rates(enclave.write_and_read(TOTAL, PIECE)),
                    "tmpfs": rates(workload.write_and_read(plain, TOTAL, PIECE)),
                    "inside, in pieces of 8 KiB": rates(enclave.write_and_read(TOTAL, SMALL)),
                    "tmpfs, in pieces of 8 KiB": rates(workload.write_and_read(plain, TOTAL, SMALL)),
                },
            )
    finally:
        shutil.rmtree(plain)
    return [row]


def rates(seconds: list[float]) -> str:
    """Gibibytes per second, in each direction."""
    written, read = (TOTAL / (1 << 30) / one for one in seconds)
    return f"{written:.1f} GiB/s written, {read:.1f} GiB/s read"
