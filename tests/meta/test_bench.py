"""The benchmark's arithmetic, and the shape of its results."""

from __future__ import annotations

import ast
import dataclasses
import json
import re

from bench import guests, harness, run
from tests.meta.tree import DOCS


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    """Both sides run alternately, each first every other round, and the result is the median of the
    ratios.
    """
    order: list[str] = []
    mine = iter([1.0, 9.0, 2.0])

    def ours() -> float:
        order.append("ours")
        return next(mine)

    def theirs() -> float:
        order.append("theirs")
        return 2.0

    row = harness.Harness(3, 0).compare("a", "b", 1.0, ours=ours, theirs=theirs)

    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert (row.ratio, row.held, row.rounds) == (1.0, True, 3)
    assert (row.ours, row.theirs) == (2.0, 2.0)


def test_a_row_over_its_hold_says_so() -> None:
    """A ratio above the limit is OVER in the table, followed by its figures."""
    row = harness.Row(
        name="a",
        against="b",
        ratio=1.6,
        hold=1.5,
        rounds=3,
        ours=0.0016,
        theirs=0.001,
        also={"first": "2 s"},
    )
    assert harness.as_table([row]) == (
        "what  against  ratio  hold        ours    theirs\n"
        "a     b        1.60   1.50  OVER  1.6 ms  1 ms\n"
        "    first: 2 s"
    )


def test_a_row_that_is_no_time_says_its_unit() -> None:
    """Medians of memory are not printed as seconds."""
    row = harness.Row(
        name="a", against="b", ratio=0.98, hold=1.0, rounds=1, ours=251.5, theirs=256.0, unit="MiB"
    )
    assert "252 MiB  256 MiB" in harness.as_table([row])


def test_the_results_are_a_list_of_rows_with_their_machine() -> None:
    """bench/results/rows.json is a list of rows, each with its ratio, its hold and the machine."""
    rows = json.loads(run.RESULTS.read_text())
    for row in rows:
        assert set(row) == {each.name for each in dataclasses.fields(harness.Row)} | {"held", "machine"}
        assert row["machine"]["cores"] >= 1
        assert row["held"] == (row["ratio"] <= row["hold"])
    held_to = {(row["name"], row["against"], float(row["hold"])) for row in rows}
    page = (DOCS / "quality" / "benchmarks.md").read_text().replace("`", "")
    promised = re.findall(r"^\| (.+?) \| (.+?) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert held_to == {(name, against, float(hold)) for name, against, hold in promised}


def test_the_printing_guest_starts_its_thread() -> None:
    """The guest that prints its memory is the guest's own program, with one function and its call."""
    program = ast.parse(guests.printing_program())
    functions = {one.name: one for one in program.body if isinstance(one, ast.FunctionDef)}
    called = {
        one.func.id
        for one in ast.walk(functions["main"])
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
    }

    assert "_print_memory" in functions
    assert "_print_memory" in called
