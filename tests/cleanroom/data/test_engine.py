"""DuckDB, shut in: queries that the grammar would never let through find every door closed all the same."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from kluis.cleanroom.data import engine
from kluis.cleanroom.data.engine import AnalysisFailed, Engine

SECRET = pl.DataFrame({"id": [1, 2], "name": ["Alice Smith", "Bob"]})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/proc/self/environ')",
        "COPY t TO '/tmp/kluis-engine-test.csv'",
        "ATTACH '/tmp/kluis-engine-test.db' AS x",
        "INSTALL httpfs",
        "SET lock_configuration = false",
        "SET enable_external_access = true",
        "SELECT getenv('PATH')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM SECRET",
    ],
)
def test_no_way_out(sql: str) -> None:
    """No file, no extension, no setting, no environment, no variable of the program."""
    with pytest.raises(AnalysisFailed):
        Engine({"t": SECRET}).rows(sql)
    assert not list(Path("/tmp").glob("kluis-engine-test*"))


@pytest.mark.parametrize("sql", ["SELECT error(name) FROM t", "SELECT CAST(name AS INT) FROM t"])
def test_errors_say_nothing(sql: str) -> None:
    """An error that carries a cell's value leaves as a code, with no cause to read it from."""
    with pytest.raises(AnalysisFailed) as caught:
        Engine({"t": SECRET}).rows(sql)
    said = repr((caught.value, caught.value.__cause__, caught.value.__context__, caught.value.hint))
    assert "Alice" not in said
    assert (caught.value.message, caught.value.code) == ("analysis: the engine stopped", "analysis_failed")


def test_no_spill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory is an error; nothing is written in its stead."""
    monkeypatch.setitem(engine._CONFIG, "memory_limit", "40MB")
    monkeypatch.chdir(tmp_path)
    table = pl.DataFrame({"s": [f"canary-{number}" * 4 for number in range(400_000)]})
    with pytest.raises(AnalysisFailed) as caught:
        Engine({"t": table}).rows("SELECT s FROM t ORDER BY s DESC")
    assert caught.value.code == "analysis_failed"
    assert os.listdir(tmp_path) == []


def test_a_table_is_read_as_often_as_it_is_named() -> None:
    """A query may name a table twice."""
    assert Engine({"t": SECRET}).rows("SELECT a.id FROM t a JOIN t b ON a.id = b.id ORDER BY 1") == [
        (1,),
        (2,),
    ]
