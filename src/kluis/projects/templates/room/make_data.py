"""Create two files of invented records, which their owners would not show each other."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl

PEOPLE = 500


def main(folder: Path) -> None:
    """Write ``people.parquet`` and ``labs.parquet``."""
    ids, pick = list(range(PEOPLE)), random.Random(1)  # noqa: S311 - invented, and the same each time
    died = [int(pick.random() < 0.2) for _ in ids]
    people = {"id": ids, "age": [pick.randint(30, 90) for _ in ids], "died": died}
    pl.DataFrame(people).write_parquet(folder / "people.parquet")
    pl.DataFrame({"id": ids, "value": [pick.gauss(50, 10) for _ in ids]}).write_parquet(
        folder / "labs.parquet"
    )


if __name__ == "__main__":
    main(Path(__file__).parent)
