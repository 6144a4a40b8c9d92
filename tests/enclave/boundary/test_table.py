"""Tables: made of what holds columns, read by what reads Arrow."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kluis.enclave import Table
from kluis.errors import UsageError

COLUMNS = {"id": [1, 2], "name": ["a", None]}


@pytest.mark.parametrize(
    "data",
    [
        COLUMNS,
        pa.table(COLUMNS),
        pa.RecordBatch.from_pydict(COLUMNS),
        pl.DataFrame(COLUMNS).cast({"name": pl.String}),
        Table(COLUMNS),
    ],
    ids=lambda data: type(data).__name__,
)
def test_made_of(data: object) -> None:
    """Whatever holds columns makes a table."""
    table = Table(data)
    assert table.to_dict() == COLUMNS
    assert (table.num_rows, len(table), table.column_names) == (2, 2, ["id", "name"])


def test_read_by_others() -> None:
    """Polars and pyarrow read it unchanged."""
    table = Table(COLUMNS)
    assert pl.DataFrame(table).to_dict(as_series=False) == COLUMNS
    assert pa.table(table).to_pydict() == COLUMNS


def test_parquet(tmp_path: Path) -> None:
    """A Parquet file is a table."""
    pq.write_table(pa.table(COLUMNS), tmp_path / "t.parquet")
    assert Table.read_parquet(tmp_path / "t.parquet") == Table(COLUMNS)
    assert Table(COLUMNS) != 5
    assert repr(Table(COLUMNS)) == "Table(2 rows: id, name)"


def test_no_table() -> None:
    """What holds no columns is refused."""
    with pytest.raises(UsageError, match=r"\Atable: want a frame or columns, got int"):
        Table(5)


def test_frames_in_and_out() -> None:
    """Frames of polars and pandas make a table, and are made of one; numbers, text, dates and gaps stay."""
    rows = {"id": [1, 2], "name": ["a", None], "day": [date(2026, 1, 1), None]}
    for frame in (pl.DataFrame(rows), pd.DataFrame(rows)):
        table = Table(frame)
        assert table.to_dict() == rows
        assert table.to_polars().to_dict(as_series=False) == rows
        assert table.to_pandas()["id"].tolist() == [1, 2]
        assert table.to_pandas()["name"].isna().tolist() == [False, True]


def test_an_index_is_a_column() -> None:
    """What a sender states about an index is not read: it is a column like the others."""
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    table = Table(frame)
    assert table.to_dict() == {"a": [1, 2], "key": ["x", "y"]}
    assert table.to_pandas().index.tolist() == [0, 1]
    assert Table(frame.reset_index()).column_names == ["key", "a"]


@pytest.mark.parametrize(
    "data",
    [pl.Series("a", [1]), {"a": [1, "secret"]}, pd.Series([object()])],
    ids=["series", "mixed", "objects"],
)
def test_columns_that_arrow_cannot_hold(data: object) -> None:
    """What is no frame, or has values without a type, is refused, and no value is in the error."""
    with pytest.raises(UsageError) as error:
        Table(data)
    assert error.value.message == f"table: want columns of one type each, got {type(data).__name__}"
