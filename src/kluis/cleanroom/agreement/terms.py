"""An owner's terms for a data set, fixed when it is sealed: nobody can loosen them afterwards.

The data set's encryption includes the terms' hash (``datasets``). So an agreement with weaker terms does not
open the data, even if all parties signed it. A use that is not named is denied.
"""

from __future__ import annotations

import datetime
from fractions import Fraction
from typing import Annotated, Literal

import msgspec

from kluis.cleanroom.agreement.documents import Document
from kluis.errors import PolicyError
from kluis.frozen import frozen

Identifier = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}\Z")]
ColumnName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}\Z")]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Time = Annotated[datetime.datetime, msgspec.Meta(tz=True)]
ColumnType = Literal["integer", "number", "string", "boolean", "date", "timestamp"]

#: join: in an equality between tables. group: a group of at least k persons may be named by it.
#: filter: in a condition on rows. aggregate: in a sum or average. extrema: in a minimum or maximum, which
#: show one person's value. model: in a model's table, which never leaves.
Use = Literal["aggregate", "extrema", "filter", "group", "join", "model"]
Decimal = Annotated[str, msgspec.Meta(pattern=r"^-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?\Z")]

LEAST_K = 3
MOST_STEPS = 1_000_000_000


@frozen
class Scale:
    """A range in steps: a value is ``low + step * n``, and n is 0 to ``most``."""

    low: Fraction
    step: Fraction
    most: int


class Range(Document, frozen=True):
    """The range of a column's values; values outside count as the nearest one inside."""

    low: Decimal
    high: Decimal
    step: Decimal

    @property
    def scale(self) -> Scale:
        """The range in steps; exact.

        Raises:
            PolicyError: it is empty, is not a whole number of steps, or has more than 10^9.
        """
        low, high, step = Fraction(self.low), Fraction(self.high), Fraction(self.step)
        if step <= 0 or low >= high:
            raise PolicyError(
                f"range: want low < high and a step above 0, got {self.low} to {self.high} by {self.step}",
                code="terms",
            )
        steps = (high - low) / step
        if steps.denominator != 1 or steps > MOST_STEPS:
            raise PolicyError(
                f"range: want 1 to {MOST_STEPS} whole steps, got {self.low} to {self.high} by {self.step}",
                code="terms",
            )
        return Scale(low, step, int(steps))


BOOLEAN = Scale(Fraction(0), Fraction(1), 1)


class Column(Document, frozen=True):
    """One column: its type, its range, and every allowed use; a missing use is denied."""

    name: ColumnName
    type: ColumnType
    allow: tuple[Use, ...]
    range: Range | None = None

    @property
    def scale(self) -> Scale | None:
        """Its values in steps; None without a range. A boolean is 0 or 1.

        Raises:
            PolicyError: an invalid range.
        """
        if self.type == "boolean":
            return BOOLEAN
        return self.range.scale if self.range is not None else None

    def check(self, what: str) -> None:
        """Refuse a range that does not fit the type, and a sum without a range.

        Raises:
            PolicyError: names the column.
        """
        if self.range is not None:
            if self.type not in ("integer", "number"):
                raise PolicyError(
                    f"{what}: {self.name}: want a range for integer or number, got {self.type}", code="terms"
                )
            scale = self.range.scale
            if self.type == "integer" and (scale.low.denominator, scale.step.denominator) != (1, 1):
                raise PolicyError(f"{what}: {self.name}: want a range of whole numbers", code="terms")
        missing = sorted({"aggregate", "extrema"} & set(self.allow))
        if missing and self.scale is None:
            raise PolicyError(
                f"{what}: {self.name} allows {' and '.join(missing)}: want its range",
                hint=f"add {self.name} = {{ low = ..., high = ..., step = ... }} under [range]",
                code="terms",
            )


class Terms(Document, frozen=True):
    """The owner's terms for one data set.

    Attributes:
        privacy_unit: the column whose distinct values are persons; never output, grouped or filtered by.
        k_min: the fewest persons a published number may be based on; at least 3.
        rows_per_person: the most rows of one person; 0 if the owner does not limit them.
        columns: every column, in the order of the file.
        expires: after this the owner's client releases no key.
    """

    privacy_unit: ColumnName
    k_min: Annotated[int, msgspec.Meta(ge=LEAST_K, le=1_000_000)]
    rows_per_person: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=1000)]
    expires: Time

    def check(self, what: str) -> None:
        """Refuse terms that contradict themselves.

        Raises:
            PolicyError: a repeated column, no such privacy unit, or one that may be shown; a range that does
                not fit, or none for a column that may be summed.
        """
        names = [column.name.lower() for column in self.columns]
        if len(set(names)) != len(names):
            raise PolicyError(f"{what}: want each column once, got {sorted(names)}", code="terms")
        units = [column for column in self.columns if column.name == self.privacy_unit]
        if not units:
            raise PolicyError(
                f"{what}: want privacy_unit to be a column, got {self.privacy_unit!r}", code="terms"
            )
        if units[0].type not in ("integer", "string"):
            raise PolicyError(
                f"{what}: want privacy unit {self.privacy_unit!r} to be integer or string, "
                f"got {units[0].type}",
                code="terms",
            )
        shown = sorted(set(units[0].allow) - {"join"})
        if shown:
            raise PolicyError(
                f"{what}: want privacy unit {self.privacy_unit!r} to allow at most join, got {shown}",
                code="terms",
            )
        for column in self.columns:
            column.check(what)


def strictest_k(agreed: int, terms: tuple[Terms, ...]) -> int:
    """The minimum group size for an analysis over these data sets: the largest required one."""
    return max([agreed, *(each.k_min for each in terms)])


def earliest(agreed: datetime.datetime, terms: tuple[Terms, ...]) -> datetime.datetime:
    """The time after which an analysis over these data sets is no longer allowed: the earliest of all."""
    return min([agreed, *(each.expires for each in terms)])
