"""Verify every recorded piece of evidence: report results that differ from the record, and files left out.

python scripts/vectors.py [FOLDER] [--unasked]

FOLDER, or $KLUIS_VECTORS, or ../shared/vectors: ``INDEX.json`` and ``<tee>/<name>/meta.json``. Its
last line is ``N of M as expected``; exits with 1 if any differs, and none is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kluis.errors import KluisError  # noqa: E402
from tests.corpus import facts  # noqa: E402
from tests.corpus.case import unknown_roles  # noqa: E402
from tests.corpus.judge import judge  # noqa: E402
from tests.corpus.record import find, read  # noqa: E402


def folder(given: str | None) -> Path:
    """Where the records are."""
    return Path(given or os.environ.get("KLUIS_VECTORS") or ROOT.parent / "shared" / "vectors")


def problems(path: Path, unasked: Counter[str]) -> tuple[str, ...]:
    """Run one record; any foreign exception counts as a difference, and is our bug."""
    try:
        record = read(path)
        for role in unknown_roles(record.tee, record.files):
            print(
                f"ASIDE    {path.parent.name}/{path.name}: role {role!a} is not known: its file is not read"
            )
        unasked.update(f"{record.tee}.{name}" for name in facts.unasked(record))
        return judge(record)
    except KluisError as error:
        return (f"{type(error).__name__} {error.code}: {error.message}",)
    except Exception as bug:  # noqa: BLE001 - every record is run, and a foreign exception is reported
        return (f"{type(bug).__name__}: {bug}: {traceback.extract_tb(bug.__traceback__)[-1]}",)


def main(argv: list[str]) -> int:
    """Run them all.

    Returns:
        0 if all are as expected, 1 if any differs, 7 if there are none.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--unasked", action="store_true", help="name recorded values that nothing checks")
    args = parser.parse_args(argv)
    root = folder(args.folder)
    try:
        found = find(root)
    except KluisError as error:
        print(f"vectors: error: {error.message}", file=sys.stderr)
        return 7
    good: Counter[str] = Counter()
    all_: Counter[str] = Counter()
    unasked: Counter[str] = Counter()
    for path in found:
        tee = path.parent.name
        said = problems(path, unasked)
        all_[tee] += 1
        good[tee] += not said
        for line in said:
            print(f"DIFFERS  {tee}/{path.name}: {line}")
    for tee, count in sorted(all_.items()):
        print(f"{tee:10} {good[tee]:4} of {count:4}")
    if args.unasked:
        for name, count in sorted(unasked.items()):
            print(f"unasked    {name} ({count})")
    print(f"{good.total()} of {all_.total()} as expected")
    return 0 if good == all_ else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
