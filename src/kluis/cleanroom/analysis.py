"""What a run computes, inside: sealed files to tables to results. Heavy to import, so ``session`` waits."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import polars as pl

from kluis.cleanroom import budget, datasets, model, query, results
from kluis.cleanroom.agreement import Agreement, Analysis, Dataset, SqlAnalysis
from kluis.cleanroom.documents import encode
from kluis.cleanroom.engine import Engine
from kluis.cleanroom.noise import Noise


def open_all(
    agreement: Agreement, files: Mapping[str, Sequence[bytes]], keys: Mapping[str, bytes]
) -> dict[str, pl.DataFrame]:
    """Open every data set of an agreement.

    Args:
        agreement: checked.
        files: each data set's sealed files, which are the ones the agreement pins.
        keys: each data set's key, 32 bytes.

    Raises:
        AuthenticityError: a key does not open a file as this part of this data set of this room.
    """
    return {
        each.id: datasets.open_parts(files[each.id], keys[each.id], agreement.room, each)
        for each in agreement.datasets
    }


def compute(
    analysis: Analysis, inputs: Sequence[Dataset], tables: Mapping[str, pl.DataFrame], k: int, noise: Noise
) -> tuple[bytes, str]:
    """Run one analysis on opened tables.

    Whatever the tables hold, there is a result: what cannot be computed, or has no rows, or more than were
    agreed, is a result without any figure. Its size does not depend on it.

    Returns:
        The padded result, and the SQL that ran.

    Raises:
        QueryError: it asks for what is not allowed; this does not depend on the tables.
    """
    if isinstance(analysis, SqlAnalysis):
        guarded = query.guard(analysis.query, tuple(inputs), k)
        sql, size = guarded.sql, results.size_of(analysis, budget.columns_of(analysis))
    else:
        features = frozenset((analysis.outcome, *(name for arm in analysis.arms for name in arm.predictors)))
        checked = query.person_table(analysis.table, tuple(inputs), analysis.person, features)
        sql, size = checked.sql, results.size_of(analysis)
    try:
        plain = _plain(analysis, tables, sql, k, noise)
    # Any error here can depend on a value, and its class would be known outside. Polars' is not an Exception.
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001
        plain = b""
    return results.pad(plain, size), sql


def _plain(analysis: Analysis, tables: Mapping[str, pl.DataFrame], sql: str, k: int, noise: Noise) -> bytes:
    engine = Engine(tables)
    try:
        table = engine.query(sql)
    finally:
        engine.close()
    if not isinstance(analysis, SqlAnalysis):
        return encode(model.run(analysis, table, k, noise, sql))
    if not 0 < len(table) <= analysis.max_rows:
        return b""
    out = io.BytesIO()
    table.write_parquet(out)
    return out.getvalue()
