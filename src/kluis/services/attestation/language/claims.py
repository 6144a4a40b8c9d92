"""Claims in a policy: typed, and with an issuer."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from kluis.errors import UsageError
from kluis.frozen import frozen

Value: TypeAlias = str | int | bool

MOST_INTEGER: Final = (1 << 63) - 1
_VALUE_TYPES: Final[dict[type, str]] = {str: "String", int: "Integer", bool: "Boolean"}


class Issuer(enum.StrEnum):
    """The origin of a claim."""

    SERVICE = "AttestationService"
    CUSTOM = "CustomClaim"
    POLICY = "AttestationPolicy"


@frozen
class Claim:
    """One claim.

    Attributes:
        type: the claim's name.
        value: text, a 64-bit integer, or true or false.
        issuer: the claim's origin.
        read_only: it can be read, but not issued.
    """

    type: str
    value: Value
    issuer: str = Issuer.SERVICE
    read_only: bool = False

    @property
    def value_type(self) -> str:
        """``String``, ``Integer`` or ``Boolean``."""
        return _VALUE_TYPES[type(self.value)]


def shown_value(value: Value) -> str:
    """A value for a message, at most 80 characters, in the policy language's spelling, which shows its
    type.
    """
    return str(value).lower() if isinstance(value, bool) else repr(value)[:80]


class ClaimSet:
    """Claims in order of arrival, without duplicates."""

    def __init__(self, claims: Sequence[Claim] = ()) -> None:
        self._claims: list[Claim] = []
        self._by_type: dict[str, list[Claim]] = {}
        self._seen: set[tuple[str, type, Value, str]] = set()
        for claim in claims:
            self.add(claim)

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._claims)

    def __len__(self) -> int:
        return len(self._claims)

    def of_type(self, name: Value) -> Sequence[Claim]:
        """The claims with one name, in order of arrival."""
        return self._by_type.get(name, ()) if isinstance(name, str) else ()

    def add(self, claim: Claim) -> None:
        """Add a claim, unless an equal one is present."""
        key = (claim.type, type(claim.value), claim.value, claim.issuer)
        if key not in self._seen:
            self._seen.add(key)
            self._claims.append(claim)
            self._by_type.setdefault(claim.type, []).append(claim)

    def as_token(self) -> dict[str, Value | list[Value]]:
        """The claims of a token: a single value, whatever its issuers, is itself; several are a list, in
        order of issue.
        """
        by_type: dict[str, dict[tuple[type, Value], Value]] = {}
        for claim in self._claims:
            by_type.setdefault(claim.type, {})[type(claim.value), claim.value] = claim.value
        values = {name: list(each.values()) for name, each in by_type.items()}
        return {name: each[0] if len(each) == 1 else each for name, each in values.items()}


def of_mapping(values: Mapping[str, object], issuer: str = Issuer.SERVICE) -> list[Claim]:
    """Claims from names and values; a list becomes one claim for each member.

    Raises:
        UsageError: a value is not text, a 64-bit integer, a boolean, or a list of these.
    """
    claims = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, (str, int)) or (
                not isinstance(each, bool)
                and isinstance(each, int)
                and not -MOST_INTEGER - 1 <= each <= MOST_INTEGER
            ):
                raise UsageError(f"claim {name!a}: want text, a 64-bit integer or a boolean, got {each!a}")
            claims.append(Claim(name, each, issuer))
    return claims
