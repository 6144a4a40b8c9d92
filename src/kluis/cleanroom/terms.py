"""What an owner says about a data set, once, when it is sealed: nobody can loosen it afterwards.

The terms are hashed into the data set's encryption (``datasets``), so an agreement that states weaker
ones, whoever signed it, does not open the data. A use that is not named is denied.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import msgspec

from kluis.cleanroom.documents import Document
from kluis.errors import PolicyError

Identifier = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}\Z")]
ColumnName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}\Z")]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Time = Annotated[datetime.datetime, msgspec.Meta(tz=True)]
ColumnType = Literal["integer", "number", "string", "boolean", "date", "timestamp"]

#: join: in an equality between tables. group: a group of at least k persons may be named by it.
#: filter: in a condition on rows. aggregate: in a count, sum or average. extrema: in a minimum, maximum
#: or quantile, which show one person's value. model: in a model's table, which never leaves.
Use = Literal["aggregate", "extrema", "filter", "group", "join", "model"]

LEAST_K = 3


class Column(Document, frozen=True):
    """One column: its type, and every use it may be put to; a use that is missing is denied."""

    name: ColumnName
    type: ColumnType
    allow: tuple[Use, ...]


class Terms(Document, frozen=True):
    """The owner's terms for one data set.

    Attributes:
        privacy_unit: the column whose distinct values are persons; never output, grouped or filtered by.
        k_min: the fewest persons a published number may rest on; at least 3.
        columns: every column, in the order of the file.
        expires: after this the owner's client releases no key.
    """

    privacy_unit: ColumnName
    k_min: Annotated[int, msgspec.Meta(ge=LEAST_K, le=1_000_000)]
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=1000)]
    expires: Time

    def check(self, what: str) -> None:
        """Refuse terms that contradict themselves.

        Raises:
            PolicyError: a column twice, no such privacy unit, or one that may be shown.
        """
        names = [column.name.lower() for column in self.columns]
        if len(set(names)) != len(names):
            raise PolicyError(f"{what}: want each column once, got {sorted(names)}", code="terms")
        units = [column for column in self.columns if column.name == self.privacy_unit]
        if not units:
            raise PolicyError(
                f"{what}: want privacy_unit to be a column, got {self.privacy_unit!r}", code="terms"
            )
        shown = sorted(set(units[0].allow) - {"join"})
        if shown:
            raise PolicyError(
                f"{what}: want privacy unit {self.privacy_unit!r} to allow at most join, got {shown}",
                code="terms",
            )


def strictest_k(agreed: int, terms: tuple[Terms, ...]) -> int:
    """The minimum group size that holds for an analysis over these data sets: the largest anyone asks for."""
    return max([agreed, *(each.k_min for each in terms)])


def earliest(agreed: datetime.datetime, terms: tuple[Terms, ...]) -> datetime.datetime:
    """When an analysis over these data sets stops being allowed: the earliest anyone says."""
    return min([agreed, *(each.expires for each in terms)])
