"""A sealed Parquet file in, a query, a sealed answer out, compared with DuckDB over the plain file."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pyarrow

from bench.harness import Harness, Row, duration, timed
from bench.images import image
from kluis.enclave import Table
from kluis.host import load

ROWS = 10_000_000
APP = Path(__file__).resolve().parents[1] / "apps" / "science"


def rows(take: Harness) -> list[Row]:
    """One row: the whole call with a warm heap; the first, cold one is an additional figure."""
    os.environ["POLARS_MAX_THREADS"] = "2"
    workload = _workload()
    key = os.urandom(32)
    frame = workload.table(ROWS)
    sealed = workload.sealed(frame, key)
    with tempfile.TemporaryDirectory() as folder, load(image("science")) as enclave:
        plain = Path(folder) / "plain.parquet"
        frame.write_parquet(plain)
        del frame
        workload.plain_query(str(plain))
        cold = timed(lambda: enclave.sealed_query(as_table(sealed), key))
        row = take.compare(
            "sealed Parquet in, query, sealed result out (1e7 x 6), warm heap",
            "DuckDB on plain Parquet",
            1.35,
            ours=lambda: timed(lambda: enclave.sealed_query(as_table(sealed), key)),
            theirs=lambda: timed(lambda: workload.plain_query(str(plain))),
            also=lambda: {"cold": duration(cold), "sealed file": f"{len(sealed) / 1e6:.0f} MB"},
        )
    return [row]


def as_table(data: bytes) -> Table:
    """One value in one column, over the bytes without a copy."""
    offsets = pyarrow.py_buffer(bytes(8) + len(data).to_bytes(8, "little"))
    file = pyarrow.Array.from_buffers(pyarrow.large_binary(), 1, [None, offsets, pyarrow.py_buffer(data)])
    return Table(pyarrow.table({"file": file}))


def _workload() -> ModuleType:
    spec = importlib.util.spec_from_file_location("workload", APP / "workload.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["workload"] = module
    spec.loader.exec_module(module)
    return module
