"""Tables: made of what holds columns, read by what reads Arrow."""

from __future__ import annotations

from pathlib import Path

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
    with pytest.raises(UsageError, match=r"^table: want Arrow data, got int$"):
        Table(5)
