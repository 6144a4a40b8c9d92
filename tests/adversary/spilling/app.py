"""An enclave whose libraries work on more than its heap holds: they spill to encrypted scratch."""

import os

from kluis.enclave import Enclave

app = Enclave("spilling", product_id=70, svn=1)
ROWS = 16_000_000
SORT = f"""
    select sum(hash(place, value, text)) as h, count(*) as n from (
        select row_number() over (order by value) % 1000 as place, value, text from (
            select hash(i) as value, repeat('kluis', 4) || (i % 97)::varchar as text from range({ROWS}) t(i)))
"""
GROUP = f"""
    select count(*) as n, sum(c) as c, max(t) as t from (
        select hash(i % {ROWS // 2}) as g, count(*) as c, min(repeat('spill', 6) || i::varchar) as t
        from range({ROWS}) s(i) group by g)
"""


@app.ecall
def sort_and_group() -> list[str]:
    """Sort and group more than the heap in DuckDB: both answers, and the most bytes that were spilled."""
    import threading

    import duckdb

    most, done = 0, threading.Event()
    database = duckdb.connect(
        config={
            "temp_directory": "/scratch",
            "memory_limit": "200MB",
            "threads": 2,
            "preserve_insertion_order": False,
        }
    )

    def watch() -> None:
        nonlocal most
        other = database.cursor()
        while not done.wait(0.02):
            found = other.execute("select coalesce(sum(size), 0) from duckdb_temporary_files()").fetchone()
            most = max(most, found[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers = [str(database.execute(query).fetchone()) for query in (SORT, GROUP)]
    finally:
        done.set()
        watcher.join()
    return [*answers, str(most)]


@app.ecall
def polars_sort() -> list[str]:
    """Sort by a hash in polars' streaming engine: the first rows, and the most bytes that were spilled."""
    import threading

    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            there = os.statvfs("/scratch")
            most = max(most, (there.f_blocks - there.f_bfree) * there.f_frsize)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = first_by_hash()
    finally:
        done.set()
        watcher.join()
    return [answer, str(most)]


def first_by_hash() -> str:
    """Four million numbers, sorted by a hash: the first three, and a sum over all."""
    import polars as pl

    frame = pl.LazyFrame({"n": pl.int_range(4_000_000, eager=True)})
    hashed = frame.with_columns(h=pl.col("n").hash(seed=1), g=pl.col("n") * 7).sort("h")
    found = hashed.select(pl.col("n").head(3).implode(), s=pl.col("g").sum()).collect(engine="streaming")
    return str(found.rows())


@app.ecall
def files() -> list[str]:
    """numpy, pyarrow and polars write files to scratch and read them back, by every way they have."""
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    said, numbers = [], np.arange(500_000, dtype=np.int64)
    numbers.tofile("/scratch/raw")
    said.append(str(np.array_equal(np.fromfile("/scratch/raw", dtype=np.int64), numbers)))
    said.append(str(np.fromfile("/scratch/raw", dtype=np.int64, offset=80, count=3)))
    np.save("/scratch/a.npy", numbers)
    said.append(str(np.array_equal(np.load("/scratch/a.npy"), numbers)))
    said.append(str(int(np.load("/scratch/a.npy", mmap_mode="r")[-1])))
    table = pa.table({"n": numbers, "t": (numbers % 7).astype(str)})
    pq.write_table(table, "/scratch/p.parquet")
    said.append(str(pq.read_table("/scratch/p.parquet").equals(table)))
    said.append(str(pq.read_table("/scratch/p.parquet", memory_map=True).num_rows))
    frame = pl.scan_parquet("/scratch/p.parquet").group_by("t").agg(pl.col("n").sum()).sort("t").collect()
    said.append(str(frame.row(0)))
    frame.write_parquet("/scratch/f.parquet"), frame.write_ipc("/scratch/f.arrow")
    frame.write_csv("/scratch/f.csv")
    for read in (
        pl.read_parquet("/scratch/f.parquet"),
        pl.read_ipc("/scratch/f.arrow"),
        pl.read_csv("/scratch/f.csv"),
    ):
        said += [str(read.height)]
    pl.scan_parquet("/scratch/p.parquet").sort("n", descending=True).sink_parquet("/scratch/sorted.parquet")
    said.append(str(pl.scan_parquet("/scratch/sorted.parquet").head(1).collect().row(0)))
    import duckdb

    duckdb.sql("copy (select * from '/scratch/p.parquet' where n < 1000) to '/scratch/d.csv'")
    said.append(str(duckdb.sql("select count(*) from '/scratch/*.csv'").fetchall()))
    with duckdb.connect("/scratch/own.db") as own:
        own.execute("create table t as select * from '/scratch/p.parquet'")
    with duckdb.connect("/scratch/own.db") as own:
        said.append(str(own.execute("select sum(n) from t").fetchone()))
    return said
