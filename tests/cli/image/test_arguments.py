"""Words of a command line, as an ecall's types want them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kluis.cli.image import arguments
from kluis.enclave import Table
from kluis.enclave.boundary.interface import Signature, parse_signature
from kluis.errors import UsageError


def look(name: str, data: bytes, count: int = 1, share: float | None = None) -> None: ...


def lone(ages: list[int]) -> float: ...


def rows(table: Table, keys: list[str]) -> Table: ...


LOOK, ROWS = parse_signature(look), parse_signature(rows)


def test_kinds(tmp_path: Path) -> None:
    """JSON by type, a plain word for a string, a file for bytes, Parquet for a table."""
    (tmp_path / "data").write_bytes(b"\x00\x01")
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet")
    assert arguments.parse(LOOK, ["word", f"@{tmp_path / 'data'}"]) == ["word", b"\x00\x01"]
    assert arguments.parse(LOOK, ['"a word"', f"@{tmp_path / 'data'}", "-3", "null"]) == [
        "a word",
        b"\x00\x01",
        -3,
        None,
    ]
    assert arguments.parse(ROWS, [str(tmp_path / "t.parquet"), '["k"]']) == [Table({"a": [1, 2]}), ["k"]]


@pytest.mark.parametrize(
    ("signature", "words", "message"),
    [
        (LOOK, ["a"], "look: want 2 to 4 arguments, got 1"),
        (parse_signature(lone), [], "lone: want 1 argument, got 0"),
        (LOOK, ["a", '""', "many"], "look.count: want int as JSON, got many"),
        (LOOK, ["a", '""', '"3"'], "look.count: want int, got str"),
        (LOOK, ["a", "plain"], "look.data: want bytes as JSON, got plain"),
        (LOOK, ["a", "@/no/such/file"], "look.data: /no/such/file: No such file or directory"),
        (ROWS, ["/no/such.parquet", "[]"], "rows.table: /no/such.parquet: No such file or directory"),
        (ROWS, [__file__, "[]"], f"rows.table: {__file__}: want a Parquet file, got another"),
        (ROWS, ["x", '["a", 1]'], "rows.table: x: No such file or directory"),
        (LOOK, ["\udcff", '""'], "look.name: want UTF-8, got '\\udcff'"),
    ],
)
def test_refuses(signature: Signature, words: list[str], message: str) -> None:
    """Errors name the parameter, the expected and the actual value."""
    with pytest.raises(UsageError) as refused:
        arguments.parse(signature, words)
    assert refused.value.message == message


def test_inside_a_list() -> None:
    """The position inside a value is reported, too."""
    with pytest.raises(UsageError) as refused:
        arguments.parse(parse_signature(keys), ['["a", 1]'])
    assert refused.value.message == "keys.names[1]: want str, got int"


def keys(names: list[str]) -> None: ...


def test_signature() -> None:
    """A signature reads as it was declared."""
    assert arguments.signature_line(LOOK) == (
        "look(name: str, data: bytes, count: int = 1, share: float | None = null) -> None"
    )


@pytest.mark.parametrize(
    ("result", "value", "text"),
    [
        (3, 3, "3"),
        ("words", "words", "words"),
        ([1.5, None], [1.5, None], "[1.5,null]"),
        (Table({"a": [1, None]}), {"a": [1, None]}, "a\n1\n"),
    ],
)
def test_results(result: Any, value: Any, text: str) -> None:
    """A result for programs, and for people."""
    assert arguments.present_result(result, None) == (value, text)


def test_results_to_files(tmp_path: Path) -> None:
    """Bytes are written as they are, a table as Parquet, anything else as JSON."""
    out = tmp_path / "out"
    for result, read in ((b"\x00", out.read_bytes), ({"a": 1}, out.read_text)):
        assert arguments.present_result(result, out) == ({"written": str(out)}, f"written: {out}")
        assert read() in {b"\x00", '{"a":1}'}
    arguments.present_result(Table({"a": [1]}), out)
    assert pq.read_table(out).to_pydict() == {"a": [1]}
    with pytest.raises(UsageError, match=r"cannot be written"):
        arguments.present_result(b"", tmp_path / "no" / "out")
