"""What a run computes, inside: sealed files to tables to results. Heavy to import, so ``session`` waits."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import polars as pl

from kluis.cleanroom import datasets, model, query, results
from kluis.cleanroom.agreement import Agreement, Analysis, Dataset, SqlAnalysis
from kluis.cleanroom.documents import encode
from kluis.cleanroom.engine import AnalysisFailed, Engine

HIDDEN = ((0, "0"), (5, "1-5"), (20, "6-20"))


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
    analysis: Analysis, inputs: Sequence[Dataset], tables: Mapping[str, pl.DataFrame], k: int
) -> tuple[bytes, results.Format, str, str]:
    """Run one analysis on opened tables.

    Returns:
        The plain result, its format, the SQL that ran, and how many groups were hidden, as a range.

    Raises:
        QueryError: it asks for what is not allowed.
        AnalysisFailed: it cannot be computed; a code says how.
    """
    engine = Engine(tables)
    try:
        if isinstance(analysis, SqlAnalysis):
            guarded = query.guard(analysis.query, tuple(inputs), k)
            table = engine.query(guarded.sql)
            if len(table) > analysis.max_rows:
                raise AnalysisFailed(f"analysis: want at most {analysis.max_rows} rows", code="analysis_rows")
            out = io.BytesIO()
            table.write_parquet(out)
            return out.getvalue(), "parquet", guarded.sql, _range(engine.count(guarded.hidden_sql))
        features = frozenset((analysis.outcome, *(name for arm in analysis.arms for name in arm.predictors)))
        checked = query.person_table(analysis.table, tuple(inputs), analysis.person, features)
        return encode(model.run(analysis, engine.query(checked.sql), k)), "json", checked.sql, "0"
    finally:
        engine.close()


def _range(hidden: int) -> str:
    for most, text in HIDDEN:
        if hidden <= most:
            return text
    return "more than 20"
