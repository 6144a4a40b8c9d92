"""A log that another process writes: its lines are read to the end, over a change of its file."""

from __future__ import annotations

from pathlib import Path

from kluis.cli.cloud import following


def test_a_new_file_of_a_writer_that_has_ended(tmp_path: Path) -> None:
    """The lines of the second file are read, although the writer ended after it began it."""
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    before = following.last(log, 1)
    assert before.lines == ["two"]
    with log.open("a") as more:
        more.write("three\n")

    def runs() -> bool:
        if not log.with_suffix(".1").exists():
            log.rename(log.with_suffix(".1"))
            log.write_text("four\nfive")
        return False

    assert list(following.new(log, before, runs)) == ["three", "four", "five"]


def test_a_reader_that_stops_early(tmp_path: Path) -> None:
    """The file is closed when its lines are no longer read."""
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    lines = following.new(log, following.Last([], 0), lambda: True)
    assert next(lines) == "one"
    del lines  # an open file would be a ResourceWarning, which is an error
