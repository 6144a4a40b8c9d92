"""A co-owner's Parquet file is other than a writer makes it: what polars believes of it, and what it does."""

from __future__ import annotations

import io
import signal
import subprocess
import sys

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kluis.cleanroom.data import datasets
from kluis.cleanroom.data.engine import Engine
from kluis.errors import AuthenticityError, PolicyError, UnsupportedError
from tests.adversary import rooms
from tests.cleanroom import samples

READ = "import io, sys, polars; polars.read_parquet(io.BytesIO(sys.stdin.buffer.read()))"
# In bytes the same, or in a reader's eyes, or to a collation.
ALIKE = [
    "a",
    "a ",
    " a",
    "A",
    "a\0",
    "é",
    "e\u0301",
    "ß",
    "ss",
    "",
    " ",
    "\0",
    "x" * 12,
    "x" * 12 + "\0",
    "x" * 13,
]


def written(table: pa.Table) -> bytes:
    """A plain Parquet file, its values in the order that they have."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="none", use_dictionary=False, write_statistics=False)
    return out.getvalue()


def test_a_file_that_ends_the_enclave() -> None:
    """A page that states a number of values below zero ends the process: an owner ends a run."""
    honest = written(pa.table({"id": pa.array(range(300), pa.int64())}))
    count = bytes.fromhex("15d804")  # of the first page, in Thrift's compact form
    at = honest.index(count)
    ends = [
        subprocess.run(
            [sys.executable, "-c", READ], input=each, stderr=subprocess.DEVNULL, check=False
        ).returncode
        for each in (honest, honest[: at + 1] + b"\xff" + honest[at + 2 :])
    ]
    assert ends == [0, -signal.SIGABRT]


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "sealed"])
def test_a_file_that_is_not_encrypted(plain: bool) -> None:
    """A plain file opened with any key, in any room and under any terms: nothing bound it to them."""
    table, key = samples.people(), bytes(32)
    described, sealed = samples.dataset("people", "clinic", table, samples.PEOPLE_USES, key)
    out = io.BytesIO()
    table.write_parquet(out)
    prefix = datasets.aad_prefix(samples.ROOM, "people", 1, 0, described.terms)
    file = out.getvalue() + datasets.commitment(key, prefix) if plain else sealed
    dataset = msgspec.structs.replace(described, parts=datasets.describe([file]))
    if not plain:
        assert datasets.open_sealed([file], key, samples.ROOM, dataset).equals(table)
        return
    with pytest.raises(AuthenticityError) as caught:
        datasets.open_sealed([file], key, samples.ROOM, dataset)
    assert caught.value.message == "data set people: cannot be opened as the agreement has it"


@pytest.mark.parametrize("what", ["another key's", "another part's", "none", "a part of it"])
def test_a_file_has_one_key(what: str) -> None:
    """AES-GCM does not bind a file to a key: an owner who could choose among several in each run would draw
    the noise of its models again, and average it.
    """
    table, key = samples.people(), bytes(32)
    described, sealed = samples.dataset("people", "clinic", table, samples.PEOPLE_USES, key)
    prefix = datasets.aad_prefix(samples.ROOM, "people", 1, 0, described.terms)
    committed = datasets.commitment(key, prefix)
    assert sealed.endswith(committed)
    end = {
        "another key's": datasets.commitment(b"\1" * 32, prefix),
        "another part's": datasets.commitment(key, prefix + b"1"),
        "none": b"",
        "a part of it": committed[:-1],
    }[what]
    file = sealed[: -len(committed)] + end
    dataset = msgspec.structs.replace(described, parts=datasets.describe([file]))
    with pytest.raises(AuthenticityError) as caught:
        datasets.open_sealed([file], key, samples.ROOM, dataset)
    assert caught.value.message == "data set people: cannot be opened as the agreement has it"


@pytest.mark.parametrize("kind", ["extension", "dictionary", "nested"])
def test_a_column_of_another_kind(kind: str) -> None:
    """Whole numbers under an extension type, a dictionary or a list are no column that terms can name."""
    numbers = pa.array(range(300), pa.int64())
    field, column = {
        "extension": (pa.field("age", pa.int64(), metadata={"ARROW:extension:name": "years"}), numbers),
        "dictionary": (
            pa.field("age", pa.dictionary(pa.int32(), pa.string())),
            pa.array(["a", "b"] * 150).dictionary_encode(),
        ),
        "nested": (pa.field("age", pa.list_(pa.int64())), pa.array([[each] for each in range(300)])),
    }[kind]
    schema = pa.schema([pa.field("id", pa.int64()), field])
    table = pl.read_parquet(io.BytesIO(written(pa.table([numbers, column], schema=schema))))
    terms = rooms.described("people", pl.DataFrame({"id": [1], "age": [1]}), {"id": ["join"]}).terms
    with pytest.raises((PolicyError, UnsupportedError)):
        datasets.check_table(table, terms, "people")


def test_persons_of_names_that_look_alike() -> None:
    """A join, a union and a count of rows tell persons apart by every byte of their names."""
    table = pl.DataFrame({"u": ALIKE, "n": range(len(ALIKE))})
    engine = Engine({"d0": table, "d1": table})
    joined = engine.rows("SELECT d0.n, d1.n FROM d0 JOIN d1 ON d0.u = d1.u")
    assert sorted(joined) == [(each, each) for each in range(len(ALIKE))]
    (both,) = engine.rows("SELECT count(*) FROM (SELECT u FROM d0 UNION SELECT u FROM d1)")
    assert both == (len(ALIKE),)
    assert table["u"].value_counts()["count"].max() == 1
