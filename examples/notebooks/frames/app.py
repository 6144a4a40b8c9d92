"""Frames go in and come out: a summary, and the rows of one group in parts."""

from collections.abc import Iterator

import polars as pl

from kluis.enclave import Enclave, Table

app = Enclave("frames", product_id=8)


@app.ecall(raises=(ValueError,))
def summary(rows: Table, by: str, of: str) -> Table:
    """Mean and count of a column in each group of at least five rows."""
    frame = rows.to_polars()
    if not {by, of} <= set(frame.columns):
        raise ValueError("want the names of two columns")
    groups = frame.group_by(by).agg(pl.col(of).mean().alias("mean"), pl.len().alias("count"))
    return Table(groups.filter(pl.col("count") >= 5).sort(by))


@app.ecall
def parts(rows: Table, size: int) -> Iterator[Table]:
    """The rows in parts of a size, one after the other."""
    for part in rows.to_polars().iter_slices(size):
        yield Table(part)


@app.ecall
async def count(rows: Table) -> int:
    """The number of rows."""
    return len(rows)
