"""Columns that state an extension type of polars, whose values it takes for objects at an address in memory.

The type's metadata has a mark of the process and an address, and polars calls the function that it finds
there. If the mark is another, as here, it aborts the process: an enclave ended the host that read its answer,
and without the defence these tests end with a signal.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kluis.cleanroom.agreement.agreement import Dataset
from kluis.cleanroom.data import datasets
from kluis.cleanroom.receipts.results import Format
from kluis.cli.room.room_text import format_result
from kluis.enclave import Table
from kluis.enclave.boundary import memfile
from kluis.errors import AuthenticityError, FormatError, UnsupportedError
from tests.adversary import test_two_keys as two_keys
from tests.cleanroom import samples

STATED = {"ARROW:extension:name": "_POLARS_PYTHON_OBJECT", "ARROW:extension:metadata": "0;4096"}
BYTES = pa.array([bytes(16)] * 200, pa.binary(16))
KEY = b"\1" * 32


def received(table: pa.Table) -> Table:
    """A table as it arrives on the other side of the boundary."""
    descriptor = memfile.of_table(Table(table))
    try:
        return memfile.map_table(descriptor, 1 << 20, "table")
    finally:
        os.close(descriptor)


def table_of(kind: pa.DataType, values: pa.Array, metadata: dict[str, str] | None = None) -> pa.Table:
    """A table of one column ``x``."""
    return pa.table([values], pa.schema([pa.field("x", kind, metadata=metadata)]))


def test_a_tables_column_arrives_as_it_is_stored() -> None:
    """Polars reads bytes, and no address; what else a sender states of the column stays."""
    table = received(table_of(BYTES.type, BYTES, {**STATED, "unit": "kg"}))
    assert table.to_polars().schema == {"x": pl.Binary}
    assert table.arrow.schema.field("x").metadata == {b"unit": b"kg"}
    assert table.arrow.column("x").to_pylist() == BYTES.to_pylist()


def test_types_of_arrow_itself_arrive_as_they_are_stored() -> None:
    """No extension type is read, whether Arrow has it or not."""
    table = received(table_of(pa.uuid(), pa.ExtensionArray.from_storage(pa.uuid(), BYTES)))
    assert table.arrow.schema.field("x").type == pa.binary(16)
    assert table.arrow.column("x").to_pylist() == BYTES.to_pylist()


@pytest.mark.parametrize(
    "within",
    [pa.list_, lambda field: pa.struct([field]), lambda field: pa.map_(pa.int8(), field)],
    ids=["list", "struct", "map"],
)
@pytest.mark.parametrize("depth", [1, 3])
def test_within_another_type(within: Callable[[pa.Field], pa.DataType], depth: int) -> None:
    """A column that has one within it is refused."""
    kind = within(pa.field("y", BYTES.type, metadata=STATED))
    for _ in range(depth - 1):
        kind = within(pa.field("y", kind))
    with pytest.raises(FormatError, match=r"^table: 'x': want a list or struct of plain types$"):
        received(table_of(kind, pa.nulls(3, kind)))


def test_an_owners_file() -> None:
    """A data set's file with such a column does not open, before a value is read."""
    dataset, file = _sealed(table_of(BYTES.type, BYTES, STATED))
    assert b"ARROW:schema" not in file  # its footer is encrypted
    with pytest.raises(AuthenticityError, match="cannot be opened as the agreement has it"):
        datasets.open_sealed([file], KEY, samples.ROOM, dataset)
    with pytest.raises(
        UnsupportedError, match=r"^column x: want a number, string, boolean, date or timestamp"
    ):
        datasets.read_table(_parquet(table_of(BYTES.type, BYTES, STATED)), "file")


def test_a_result() -> None:
    """A recipient's client opens what the code of a room made, which nobody needs to have built."""
    with pytest.raises(
        UnsupportedError, match=r"^column x: want a number, string, boolean, date or timestamp"
    ):
        format_result("parquet", _parquet(table_of(BYTES.type, BYTES, STATED)))


@pytest.mark.parametrize(("kind", "plain"), [("parquet", b"PAR1"), ("json", b'{"arms":[]}'), ("json", b"[")])
def test_a_result_of_another_form(kind: Format, plain: bytes) -> None:
    """Nor does it end with an error of ours that is none."""
    with pytest.raises(FormatError, match=r"^result"):
        format_result(kind, plain)


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _sealed(table: pa.Table) -> tuple[Dataset, bytes]:
    """A file with plain pages and an encrypted footer, as pyarrow writes it; ``x`` is said to be text."""
    stand_in = pl.DataFrame({"id": range(200), "x": ["-"] * 200})
    described, like = samples.dataset("people", "clinic", stand_in, {"id": ["join"]}, KEY)
    prefix = datasets.aad_prefix(samples.ROOM, "people", 1, 0, described.terms)
    whole = _parquet(table.add_column(0, "id", pa.array(range(200))))
    file = two_keys.with_sealed_footer(whole, like[: -datasets.COMMITMENT_SIZE], prefix, KEY)
    file += datasets.commitment(KEY, prefix)
    return msgspec.structs.replace(described, parts=datasets.describe([file])), file
