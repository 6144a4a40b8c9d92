"""A typical scientific application: numpy, polars, DuckDB and scikit-learn, imported at start."""

import json

import workload

from kluis.enclave import Enclave, Table

app = Enclave("bench-science", product_id=103, svn=1)


@app.ecall
def group_by(rows: int, threads: int) -> list[float]:
    """Seconds of each of several runs of one group-by over a table made here."""
    return workload.group_by(rows, threads)


@app.ecall
def sealed_query(sealed: Table, key: bytes) -> bytes:
    """Decrypt a Parquet file, query it, and seal the answer under the same key.

    The file is the one value of a table's one column: a table is copied once, bytes twice.
    """
    return workload.sealed_query(sealed.arrow.column(0).chunk(0).buffers()[2].to_pybytes(), key)


@app.ecall
def versions() -> str:
    """The versions of the imported libraries."""
    return json.dumps(workload.versions())
