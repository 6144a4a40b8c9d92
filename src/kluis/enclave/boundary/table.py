"""Table: Arrow data that crosses the boundary in a memory file, mapped and not copied.

Arrow itself (pyarrow) is loaded only when a table is created or received. Spec: Arrow Columnar Format, "IPC
Streaming Format".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from kluis.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


class Table:
    """A table: columns of equal length, in Arrow's layout.

    polars, DuckDB and pyarrow read it without a copy (``__arrow_c_stream__``), or take ``table.arrow``, a
    ``pyarrow.Table``; ``to_polars`` and ``to_pandas`` return a frame.

    Args:
        data: a ``pyarrow.Table`` or ``RecordBatch``, a polars or pandas frame, a DuckDB relation, or
            anything else with ``__arrow_c_stream__``; or a dict of columns.

    Raises:
        UsageError: ``data`` is not a table.
    """

    __slots__ = ("arrow",)

    arrow: pa.Table

    def __init__(self, data: Any) -> None:
        import pyarrow as pa

        if isinstance(data, pa.Table):
            self.arrow = data
        elif isinstance(data, Table):
            self.arrow = data.arrow
        elif isinstance(data, pa.RecordBatch):
            self.arrow = pa.Table.from_batches([data])
        elif isinstance(data, dict) or hasattr(data, "__arrow_c_stream__"):
            try:
                self.arrow = pa.table(data)
            except pa.ArrowException:
                # Arrow's own message quotes values, and ours leaves an enclave.
                name = type(data).__qualname__
                raise UsageError(
                    f"table: want columns of one type each, got {name}",
                    hint="pyarrow.table() on the same data shows the column",
                ) from None
        else:
            raise UsageError(
                f"table: want a frame or columns, got {type(data).__qualname__}",
                hint="collect a lazy frame first; a series needs its name: to_frame()",
            )

    @classmethod
    def read_parquet(cls, source: Any) -> Self:
        """Read a Parquet file: a path, or a file object."""
        import pyarrow.parquet as pq

        return cls(pq.read_table(source))

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.arrow.column_names)

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return int(self.arrow.num_rows)

    @property
    def num_bytes(self) -> int:
        """The size of the columns' buffers, in bytes."""
        return int(self.arrow.nbytes)

    def to_polars(self) -> Any:
        """A polars frame of the same columns, which copies no numbers; polars must be installed."""
        import polars

        return polars.DataFrame(self)

    def to_pandas(self) -> Any:
        """A pandas frame of the same columns, with the default index; pandas must be installed.

        An index that a pandas frame had is a column: what the sender states of it is not read, because the
        sender may be a hostile host.
        """
        return self.arrow.to_pandas(ignore_metadata=True)

    def to_dict(self) -> dict[str, list[Any]]:
        """The columns as lists of Python values."""
        columns: dict[str, list[Any]] = self.arrow.to_pydict()
        return columns

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self.num_rows

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return bool(self.arrow.equals(other.arrow))

    # Equality compares contents, which may be large: a table is not hashable.
    __hash__ = None  # type: ignore[assignment]  # object has a method here, a table has none

    def __repr__(self) -> str:
        return f"Table({self.num_rows} rows: {', '.join(self.column_names)})"
