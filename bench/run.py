"""Measures Kluis against its peers and writes the rows.

    python bench/run.py                    every row
    python bench/run.py calls quotes       some groups of rows
    python bench/run.py --rounds 5 --patience 0

The table goes to stdout; the rows, as a JSON list, to bench/results/rows.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench import harness  # noqa: E402 - run by file name, from anywhere

GROUPS = ("calls", "tables", "starts", "analytics", "rooms", "quotes")
RESULTS = HERE / "results"


def main() -> int:
    """Run the groups that were asked for.

    Returns:
        0; a ratio over its hold is reported, and is no error: shared machines are noisy.
    """
    parser = argparse.ArgumentParser(description="Measure Kluis against its peers.")
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="which rows; all if none is named")
    parser.add_argument("--rounds", type=int, default=11, help="how often each side runs (default 11)")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine")
    asked = parser.parse_args()
    take = harness.Harness(asked.rounds, asked.patience)
    rows: list[harness.Row] = []
    for group in asked.groups or GROUPS:
        print(f"measuring {group}", file=sys.stderr)
        rows += importlib.import_module(f"bench.rows.{group}").rows(take)
    description = harness.machine()
    print(harness.as_table(rows))
    print(f"\non {json.dumps(description)}")
    RESULTS.mkdir(exist_ok=True)
    written = RESULTS / "rows.json"
    kept = _others(written, {row.name for row in rows})
    fresh = [harness.as_json(row, description) for row in rows]
    written.write_text(json.dumps([*kept, *fresh], indent=2) + "\n")
    print(f"rows: {written.relative_to(HERE.parent)}", file=sys.stderr)
    return 0


def _others(written: Path, names: set[str]) -> list[object]:
    """The rows of earlier runs whose groups were not asked for this time."""
    if not written.exists():
        return []
    return [row for row in json.loads(written.read_text()) if row["name"] not in names]


if __name__ == "__main__":
    sys.exit(main())
