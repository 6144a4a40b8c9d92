"""Parse ``terms.toml``: an owner's terms for one data set, written by a person.

::

    privacy_unit = "id"        # the column whose distinct values are persons
    k_min = 10                 # the fewest persons a published number may rest on
    rows_per_person = 1        # the most rows of one person; left out, they are not limited
    expires_days = 365

    [allow]                    # uses by column; a column that is not named may be put to none
    id = ["join"]
    age = ["group", "filter", "model"]
    weight = ["aggregate"]

    [range]                    # for a column that is summed: values outside count as the nearest inside
    weight = { low = 30, high = 200, step = 0.1 }
"""

from __future__ import annotations

import datetime
import decimal
from typing import Annotated

import msgspec
import polars as pl

from kluis.cleanroom.agreement.terms import Range, Terms, Use
from kluis.cleanroom.data.datasets import columns_of
from kluis.errors import FormatError
from kluis.formats.encoding import toml, typed


class _Range(msgspec.Struct, forbid_unknown_fields=True):
    low: int | decimal.Decimal
    high: int | decimal.Decimal
    step: int | decimal.Decimal

    def text(self) -> dict[str, str]:
        return {name: f"{decimal.Decimal(getattr(self, name)):f}" for name in ("low", "high", "step")}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    privacy_unit: str
    k_min: Annotated[int, msgspec.Meta(ge=3)]
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)]
    allow: dict[str, list[Use]]
    range: dict[str, _Range] = {}
    rows_per_person: int = 0


def read_terms(text: str, table: pl.DataFrame, now: datetime.datetime, what: str = "terms") -> Terms:
    """Parse terms for a table.

    Args:
        text: TOML.
        table: all of its columns must be in the terms.
        now: aware; the terms end ``expires_days`` later.
        what: the file's name, for messages.

    Raises:
        FormatError: not TOML, or not terms; names the table and the key.
        PolicyError: a column that the table does not have, or terms that contradict themselves.
    """
    document = toml.loads(text.encode(), what, parse_float=_decimal)
    if "analysis" in document and "allow" not in document:
        raise FormatError(
            f"{what}: want the terms of a data set, got a plan of analyses",
            hint=f"terms have [allow]; a plan goes to: kluis room propose ROOM --plan {what}",
        )
    file = typed.convert(document, _File, what)
    ranges = {
        name: typed.convert(each.text(), Range, f"{what}.range.{name}") for name, each in file.range.items()
    }
    terms = typed.convert(
        {
            "privacy_unit": file.privacy_unit,
            "k_min": file.k_min,
            "rows_per_person": file.rows_per_person,
            "columns": [msgspec.to_builtins(each) for each in columns_of(table, dict(file.allow), ranges)],
            "expires": now.replace(microsecond=0) + datetime.timedelta(days=file.expires_days),
        },
        Terms,
        what,
    )
    terms.check(what)
    return terms


def _decimal(text: str) -> decimal.Decimal:
    """A number of TOML, exact; written out it has at most some hundred digits, whatever its exponent."""
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise ValueError("want an exponent from -99 to 99") from None
    if number.is_finite() and abs(number.adjusted()) > 99:
        raise ValueError("want an exponent from -99 to 99")
    return number
