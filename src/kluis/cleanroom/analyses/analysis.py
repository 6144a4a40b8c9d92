"""Compute a run's results inside the enclave, from sealed files. Slow to import, so ``session`` imports it
late.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import polars as pl

from kluis.cleanroom import query
from kluis.cleanroom.agreement.agreement import Agreement, Analysis, Dataset, ModelAnalysis, SqlAnalysis
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.analyses import model
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.data import datasets
from kluis.cleanroom.data.engine import MOST_ROWS, Engine
from kluis.cleanroom.data.values import prepare
from kluis.cleanroom.query import Groups, PersonTable
from kluis.cleanroom.receipts import results

TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "integer": pl.Int64,
    "number": pl.Float64,
    "string": pl.String,
    "boolean": pl.Boolean,
    "date": pl.Date,
    "timestamp": pl.Datetime("us"),
}


def open_all(
    agreement: Agreement, files: Mapping[str, Sequence[bytes]], keys: Mapping[str, bytes]
) -> dict[str, pl.DataFrame]:
    """Open every data set of an agreement.

    Args:
        agreement: checked.
        files: each data set's sealed files, already checked against the agreement.
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

    There is always a result, whatever the tables contain. A computation that fails, has no rows, or has more
    rows than agreed yields a result without figures. Its size does not depend on this.

    Returns:
        The padded result, and the SQL that ran.

    Raises:
        QueryError: it requests something that is not allowed; this does not depend on the tables.
    """
    sources = tuple(inputs)
    result: Groups | PersonTable
    if isinstance(analysis, SqlAnalysis):
        result = query.read_groups(analysis.query, sources)
        sql, size = query.write_cells(result, k), results.size_of(analysis, len(result.names))
    else:
        predictors = frozenset(name for arm in analysis.arms for name in arm.predictors)
        result = query.read_person_table(
            analysis.table, sources, analysis.person, analysis.outcome, predictors
        )
        sql, size = query.write_person_table(result), results.size_of(analysis)
    # The SQL names neither: it is the same for two data sets, or two names, that come in the same order.
    noise = noise.for_question("|".join(each.id for each in sources), "|".join(_names(result)))
    try:
        plain = _plain(analysis, result, sources, tables, sql, k, noise)
    # Any error here can depend on a value, and its class would be visible outside. Polars' is not an
    # Exception.
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001
        plain = b""
    return results.pad(plain, size), sql


def _names(question: Groups | PersonTable) -> tuple[str, ...]:
    """What a model's arms call the columns of its table, in their order."""
    return tuple(name for name, _ in question.predictors) if isinstance(question, PersonTable) else ()


def _plain(
    analysis: Analysis,
    question: Groups | PersonTable,
    inputs: tuple[Dataset, ...],
    tables: Mapping[str, pl.DataFrame],
    sql: str,
    k: int,
    noise: Noise,
) -> bytes:
    engine = Engine({f"d{number}": prepare(tables[each.id], each) for number, each in enumerate(inputs)})
    try:
        if isinstance(analysis, SqlAnalysis) and isinstance(question, Groups):
            return _groups(analysis, question, engine, sql, k, noise)
        if isinstance(analysis, ModelAnalysis) and isinstance(question, PersonTable):
            return _model(analysis, question, engine, sql, k, noise)
        return b""
    finally:
        engine.close()


def most_cells(drawn: Noise) -> int:
    """The most cells that a query may have: half of ``MOST_ROWS`` to all of it, in secret.

    Cells that no rule has seen yet decide here whether there is a result. A co-owner who knew the limit
    could fill its own table up to it, and one person's value would make one cell more.

    Args:
        drawn: the noise of this question.
    """
    half = MOST_ROWS // 2
    return half + math.floor(half * drawn.uniform("cells"))


def _groups(analysis: SqlAnalysis, groups: Groups, engine: Engine, sql: str, k: int, noise: Noise) -> bytes:
    cells = engine.rows(sql, most_cells(noise.for_question(sql, str(k))))
    rows = query.rows(groups, query.publish(groups, cells, k))
    if not 0 < len(rows) <= analysis.max_rows:
        return b""
    schema = dict(zip(groups.names, (TYPES[each] for each in query.kinds(groups)), strict=True))
    out = io.BytesIO()
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(out)
    return out.getvalue()


def _model(
    analysis: ModelAnalysis, question: PersonTable, engine: Engine, sql: str, k: int, noise: Noise
) -> bytes:
    table = model.leave_out_small(engine.table(sql), k, noise.for_question(sql, str(k)))
    table.columns = [question.person, question.outcome, *(name for name, _ in question.predictors)]
    return encode(model.run(analysis, table, k, noise, sql))
