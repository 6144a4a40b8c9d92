"""What a run computes, inside: sealed files to tables to results. Heavy to import, so ``session`` waits."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import polars as pl

from kluis.cleanroom import datasets, model, query, results
from kluis.cleanroom.agreement import Agreement, Analysis, Dataset, ModelAnalysis, SqlAnalysis
from kluis.cleanroom.documents import encode
from kluis.cleanroom.engine import AnalysisFailed, Engine
from kluis.cleanroom.values import prepared

TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "integer": pl.Int64,
    "number": pl.Float64,
    "string": pl.String,
    "boolean": pl.Boolean,
    "date": pl.Date,
    "timestamp": pl.Datetime("us"),
}
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
    engine = Engine({f"d{number}": prepared(tables[each.id], each) for number, each in enumerate(inputs)})
    try:
        if isinstance(analysis, SqlAnalysis):
            return _groups(analysis, tuple(inputs), engine, k)
        return _model(analysis, tuple(inputs), engine, k)
    finally:
        engine.close()


def _groups(
    analysis: SqlAnalysis, inputs: tuple[Dataset, ...], engine: Engine, k: int
) -> tuple[bytes, results.Format, str, str]:
    groups = query.read_groups(analysis.query, inputs)
    sql = query.write_cells(groups, k)
    release = query.publish(groups, engine.rows(sql), k)
    rows = query.rows(groups, release)
    if len(rows) > analysis.max_rows:
        raise AnalysisFailed(f"analysis: want at most {analysis.max_rows} rows", code="analysis_rows")
    schema = dict(zip(groups.names, (TYPES[each] for each in query.kinds(groups)), strict=True))
    out = io.BytesIO()
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(out)
    return out.getvalue(), "parquet", sql, _range(release.hidden)


def _model(
    analysis: ModelAnalysis, inputs: tuple[Dataset, ...], engine: Engine, k: int
) -> tuple[bytes, results.Format, str, str]:
    predictors = frozenset(name for arm in analysis.arms for name in arm.predictors)
    asked = query.read_person_table(analysis.table, inputs, analysis.person, analysis.outcome, predictors)
    if not query.enough(asked, engine.rows(query.write_person_cells(asked)), k):
        raise AnalysisFailed("analysis: a condition splits off fewer persons than k", code="analysis_too_few")
    sql = query.write_person_table(asked)
    table = engine.table(sql)
    table.columns = [asked.person, asked.outcome, *(name for name, _ in asked.predictors)]
    return encode(model.run(analysis, table, k)), "json", sql, "0"


def _range(hidden: int) -> str:
    for most, text in HIDDEN:
        if hidden <= most:
            return text
    return "more than 20"
