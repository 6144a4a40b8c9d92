"""The measured work, the same file inside and outside."""

from __future__ import annotations

import io
import os
import time
import warnings

import duckdb
import numpy
import polars
import sklearn
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

RUNS = 5
GROUP_BY = "SELECT g, count(*) AS n, sum(v) AS s, avg(v) AS a FROM t GROUP BY g ORDER BY g"
QUERY = (
    "SELECT g, count(*) AS n, max(person) AS p, avg(a) AS a, avg(b) AS b, min(day) AS first "
    "FROM t WHERE flag GROUP BY g ORDER BY g"
)


def versions() -> dict[str, str]:
    """The versions of the imported libraries."""
    return {one.__name__: one.__version__ for one in (duckdb, numpy, polars, sklearn)}


def connect(threads: int) -> duckdb.DuckDBPyConnection:
    """An in-memory database that spills nothing to disk."""
    connection = duckdb.connect(":memory:")
    connection.execute(f"SET threads = {int(threads)}")
    connection.execute("SET temp_directory = ''")
    return connection


def group_by(rows: int, threads: int) -> list[float]:
    """Seconds of each of RUNS runs of one group-by, over a table made first."""
    connection = connect(threads)
    connection.execute(
        "CREATE TABLE t AS SELECT (i * 2654435761) % 1000 AS g, (i * 40503) % 65536 / 7.0 AS v "
        f"FROM range({int(rows)}) r(i)"
    )
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        connection.execute(GROUP_BY).fetchall()
        seconds.append(time.perf_counter() - start)
    connection.close()
    return seconds


def table(rows: int) -> polars.DataFrame:
    """A table of ``rows`` by six columns, as a laboratory has it: person, test, day, two values, a flag."""
    spread = numpy.random.default_rng(7)
    return polars.DataFrame(
        {
            "person": numpy.arange(rows, dtype=numpy.int64) // 23,
            "g": spread.integers(0, 1000, rows).astype(numpy.int32),
            "day": spread.integers(0, 5000, rows).astype(numpy.int32),
            "a": spread.normal(50, 10, rows).round(1),
            "b": spread.normal(120, 15, rows).round(0),
            "flag": spread.integers(0, 2, rows).astype(numpy.bool_),
        }
    )


def sealed(frame: polars.DataFrame, key: bytes) -> bytes:
    """The table as Parquet with modular encryption (AES-256-GCM)."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # polars warns that the interface may change
        frame.write_parquet(out, encryption=polars.ParquetEncryptionProperties(footer_key=key))
    return out.getvalue()


def sealed_query(data: bytes, key: bytes) -> bytes:
    """Decrypt, query, seal the answer: the work of a room, without its rules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # polars warns that the interface may change
        t = polars.read_parquet(
            io.BytesIO(data),
            decryption=polars.ParquetDecryptionProperties(footer_key=key),
        )
    connection = connect(2)
    connection.register("t", t.to_arrow())
    answer = polars.DataFrame(connection.sql(QUERY).to_arrow_table())
    connection.close()
    out = io.BytesIO()
    answer.write_parquet(out)
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, out.getvalue(), None)


def plain_query(path: str) -> int:
    """The same query by DuckDB over the plain Parquet file."""
    connection = connect(2)
    answer = connection.execute(QUERY.replace("FROM t", f"FROM read_parquet('{path}')")).fetchall()
    connection.close()
    return len(answer)
