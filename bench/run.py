"""Measure Kluis against its peers and write the rows.

    python bench/run.py                    every row
    python bench/run.py calls quotes       some groups of rows
    python bench/run.py --rounds 5 --patience 0

The table goes to stdout; the rows, as a JSON list, to bench/results/rows.json. The benchmark starts its own
platform, in its own home, and stops it at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench import harness  # noqa: E402 - run by file name, from anywhere
from kluis.errors import KluisError  # noqa: E402
from kluis.tee import places  # noqa: E402
from kluis.tee.platform import start  # noqa: E402

GROUPS = (
    "calls",
    "streams",
    "machines",
    "tables",
    "starts",
    "analytics",
    "rooms",
    "quotes",
    "dcap",
    "scratch",
    "reports",
    "endorsements",
    "documents",
    "gpus",
    "imports",
    "tpm",
    "serving",
    "connecting",
    "inference",
    "services",
    "ledger",
    "node",
    "console",
    "cloud",
)
RESULTS = HERE / "results" / "rows.json"


def main() -> int:
    """Run the requested groups.

    Returns:
        0, even if a ratio exceeds its limit: shared machines are noisy; 1 if a group could not be run.
    """
    parser = argparse.ArgumentParser(description="Measure Kluis against its peers.")
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="which rows; all if none is named")
    parser.add_argument("--rounds", type=int, default=11, help="how often each side runs (default 11)")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine")
    asked = parser.parse_args()
    take = harness.Harness(asked.rounds, asked.patience)
    description = harness.machine()
    rows: list[harness.Row] = []
    lost = 0
    with own_platform():
        for group in asked.groups or GROUPS:
            print(f"measuring {group}", file=sys.stderr)
            try:
                fresh = importlib.import_module(f"bench.rows.{group}").rows(take)
            except KluisError as fault:
                print(f"bench: error: {group}: {fault.message}", file=sys.stderr)
                lost += 1
                continue
            rows += fresh
            write(fresh, description)
    print(harness.as_table(rows))
    print(f"\non {json.dumps(description)}")
    print(f"rows: {RESULTS.relative_to(HERE.parent)}", file=sys.stderr)
    return 1 if lost else 0


@contextlib.contextmanager
def own_platform() -> Iterator[None]:
    """A home for this run's platform, which is stopped and removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="kluis-bench-", dir="/run" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    os.environ["KLUIS_HOME"] = str(home)
    try:
        yield
    finally:
        start.stop(places.mine())
        shutil.rmtree(home, ignore_errors=True)


def write(rows: list[harness.Row], description: dict[str, object]) -> None:
    """Write these rows to the results; they replace older ones of the same name."""
    RESULTS.parent.mkdir(exist_ok=True)
    older = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    names = {row.name for row in rows}
    kept = [row for row in older if row["name"] not in names]
    fresh = [harness.as_json(row, description) for row in rows]
    RESULTS.write_text(json.dumps([*kept, *fresh], indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
