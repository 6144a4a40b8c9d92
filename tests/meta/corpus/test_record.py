"""A record's files must be unchanged since it was recorded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import FormatError
from tests.corpus.record import find, read
from tests.meta.corpus import samples


def test_found_by_the_index(tmp_path: Path) -> None:
    """Every record of the index is found, in order, and a folder that it does not name is an error."""
    for name in ("b", "a"):
        samples.write(tmp_path, name, {"quote": b"x"}, outcome="valid")
    assert [path.name for path in find(tmp_path)] == ["a", "b"]
    (tmp_path / "sgx" / "c").mkdir()
    (tmp_path / "sgx" / "c" / "meta.json").write_text("{}")
    with pytest.raises(FormatError, match="the index and the folders differ: sgx/c"):
        find(tmp_path)


def test_no_records(tmp_path: Path) -> None:
    """A folder without an index holds no records."""
    with pytest.raises(FormatError):
        find(tmp_path)


def test_a_file_that_was_changed(tmp_path: Path) -> None:
    """A file of another size or digest than recorded is an error."""
    folder = samples.write(tmp_path, "a", {"quote": b"x"}, outcome="valid")
    assert read(folder).files == {"quote": b"x"}
    for data in (b"y", b"xx", b""):
        (folder / "quote.bin").write_bytes(data)
        with pytest.raises(FormatError, match="is not what was recorded"):
            read(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": {"quote": {}}},
        {"files": {"quote": {"file": "../x", "size": 1, "sha256": ""}}},
        {"files": {"quote": {"file": "gone", "size": 1, "sha256": ""}}},
        {"expected": {}},
        {"expected": None},
        {"verify_time": "yesterday"},
    ],
    ids=str,
)
def test_a_record_that_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    """Metadata that misses a member, or names a file elsewhere, are an error of format."""
    folder = samples.write(tmp_path, "a", {"quote": b"x"}, outcome="valid")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **change}))
    with pytest.raises(FormatError):
        read(folder)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 14:00:00+02:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        (None, None),
    ],
)
def test_a_time_without_a_zone_is_utc(tmp_path: Path, text: str | None, want: datetime | None) -> None:
    """Any ISO time is one, and never one that cannot be compared."""
    folder = samples.write(tmp_path, "a", {"quote": b"x"}, outcome="valid")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "verify_time": text}))
    assert read(folder).verify_time == want
