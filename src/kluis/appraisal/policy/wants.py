"""What a policy may want of one claim: a value of each kind judges, is shown, and is written as TOML.

``ANY`` is a want like the others: it stands in a policy in so many words, or the policy does not load.
An allow-list is never empty. A claim that the evidence does not have meets no want but ``ANY``.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from kluis.appraisal.policy.values import Product, Value, either, listed, ordered, short, shown, table
from kluis.appraisal.policy.values import parts as parts_of
from kluis.errors import UsageError
from kluis.hashes import Digest


@dataclasses.dataclass(frozen=True, slots=True)
class Any:
    """Whatever the evidence says, or does not say."""

    def meets(self, got: Value) -> bool:
        """True."""
        return True

    def __str__(self) -> str:
        return "any"

    def toml(self) -> str:
        """As a policy has it."""
        return '"any"'


ANY: Final = Any()


@dataclasses.dataclass(frozen=True, slots=True)
class Referenced:
    """A reference value, which somebody else gives; met by nothing until it is there."""

    def meets(self, got: Value) -> bool:
        """False: no reference value was given for this TEE."""
        return False

    def __str__(self) -> str:
        return "a reference value, and none was given"

    def toml(self) -> str:
        """As a policy has it."""
        return '"reference"'


REFERENCE: Final = Referenced()


@dataclasses.dataclass(frozen=True, slots=True)
class OneOf:
    """One of these byte strings, compared in full.

    Attributes:
        values: at least one.
    """

    values: frozenset[bytes]

    def __post_init__(self) -> None:
        some(self.values)

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is one of them."""
        return isinstance(got, bytes) and any(hmac.compare_digest(got, each) for each in self.values)

    def __str__(self) -> str:
        return either(map(short, self.values))

    def toml(self) -> str:
        """As a policy has it."""
        return listed(each.hex() for each in self.values)


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """One of these names, or numbers.

    Attributes:
        values: at least one.
    """

    values: frozenset[str] | frozenset[int]

    def __post_init__(self) -> None:
        some(self.values)

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is one of them."""
        return not isinstance(got, bool) and isinstance(got, str | int) and got in self.values

    def __str__(self) -> str:
        return either(self.values)

    def toml(self) -> str:
        """As a policy has it."""
        return listed(self.values)


@dataclasses.dataclass(frozen=True, slots=True)
class AtLeast:
    """A number, or a version: ``1.55.21`` is one of three parts, the first weighs most.

    Attributes:
        value: the least.
    """

    value: int | tuple[int, ...]

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is as new; versions have as many parts."""
        if isinstance(self.value, tuple):
            return isinstance(got, tuple) and len(got) == len(self.value) and got >= self.value
        return isinstance(got, int) and not isinstance(got, bool) and got >= self.value

    def __str__(self) -> str:
        return f"at least {shown(self.value)}"

    def toml(self) -> str:
        """As a policy has it."""
        return str(self.value) if isinstance(self.value, int) else f'"{shown(self.value)}"'


@dataclasses.dataclass(frozen=True, slots=True)
class AtMost:
    """A number, as an age in seconds.

    Attributes:
        value: the most.
    """

    value: int

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is no more, and not below zero."""
        return isinstance(got, int) and not isinstance(got, bool) and 0 <= got <= self.value

    def __str__(self) -> str:
        return f"at most {self.value} s"

    def toml(self) -> str:
        """As a policy has it."""
        return str(self.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Exactly:
    """One number.

    Attributes:
        value: it.
    """

    value: int

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is it."""
        return not isinstance(got, bool) and got == self.value

    def __str__(self) -> str:
        return str(self.value)

    def toml(self) -> str:
        """As a policy has it."""
        return str(self.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Allowed:
    """Whether something that weakens is accepted; where it is not there, both are met.

    Attributes:
        value: true accepts it.
    """

    value: bool

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is false, or accepted."""
        return got is False or (self.value and got is True)

    def __str__(self) -> str:
        return "yes or no" if self.value else "no"

    def toml(self) -> str:
        """As a policy has it."""
        return "true" if self.value else "false"


@dataclasses.dataclass(frozen=True, slots=True)
class Required:
    """Whether something that strengthens must be there; where it is, both are met.

    Attributes:
        value: true wants it.
    """

    value: bool

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is true, or not wanted."""
        return got is True or (not self.value and got is False)

    def __str__(self) -> str:
        return "yes" if self.value else "yes or no"

    def toml(self) -> str:
        """As a policy has it."""
        return "true" if self.value else "false"


@dataclasses.dataclass(frozen=True, slots=True)
class Masked:
    """Some bits of a number of 64, or of 128.

    Attributes:
        mask: the bits that are looked at, at least one.
        value: what they must be.
    """

    mask: int
    value: int

    def __post_init__(self) -> None:
        if not self.mask or self.value & ~self.mask:
            raise UsageError(
                f"want a mask with bits, and a value within it, got {self.mask:#x}, {self.value:#x}"
            )

    def meets(self, got: Value) -> bool:
        """Whether those bits of ``got`` are so."""
        return not isinstance(got, bool) and isinstance(got, int) and got & self.mask == self.value

    def __str__(self) -> str:
        return f"{self.value:#x} under {self.mask:#x}"

    def toml(self) -> str:
        """As a policy has it."""
        return f'{{ mask = "{self.mask:x}", value = "{self.value:x}" }}'


@dataclasses.dataclass(frozen=True, slots=True)
class Registers:
    """Registers by name, each with the values it may have; others are not looked at.

    Attributes:
        values: at least one register, each with at least one value.
    """

    values: Mapping[str, frozenset[bytes]]

    def __post_init__(self) -> None:
        some(self.values)
        for name, each in self.values.items():
            some(each, name)

    def meets(self, got: Value) -> bool:
        """Whether every register named is there with one of its values."""
        return isinstance(got, Mapping) and not self.failing(got)

    def failing(self, got: Mapping[str, int] | Mapping[str, Digest]) -> list[str]:
        """The registers that are missing, or have another value."""
        wrong = []
        for name, values in ordered(self.values):
            found = got.get(name)
            if not isinstance(found, Digest) or not OneOf(values).meets(found.value):
                wrong.append(name)
        return wrong

    def __str__(self) -> str:
        return ", ".join(f"{name} {OneOf(each)}" for name, each in ordered(self.values))

    def toml(self) -> str:
        """As a policy has it."""
        return table(self.values, lambda each: OneOf(each).toml())


@dataclasses.dataclass(frozen=True, slots=True)
class Components:
    """The least security versions of a product's parts; a product that is not named is refused.

    Attributes:
        products: at least one, each with at least one part.
    """

    products: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        some(self.products)
        for name, parts in self.products.items():
            some(parts, name)

    def meets(self, got: Value) -> bool:
        """Whether the product that ``got`` names has reached every part, compared one by one."""
        if not isinstance(got, Product):
            return False
        least = self.products.get(got.name)
        return least is not None and all(got.get(part, -1) >= svn for part, svn in least.items())

    def __str__(self) -> str:
        return " or ".join(f"{name} {parts_of(parts)}" for name, parts in sorted(self.products.items()))

    def toml(self) -> str:
        """As a policy has it."""
        return table(self.products, lambda parts: table(parts, str))


Want: TypeAlias = (
    Any
    | Referenced
    | OneOf
    | Named
    | AtLeast
    | AtMost
    | Exactly
    | Allowed
    | Required
    | Masked
    | Registers
    | Components
)


def some(values: Iterable[object], name: str = "") -> None:
    """Refuse an empty list: read as a list it accepts nothing, and people mean everything.

    Refuse text, too, which is a list of whatever stands in it: "process" is in "process-user".
    """
    if isinstance(values, str | bytes):
        raise UsageError(f"{name + ': ' if name else ''}want a set of values, got {type(values).__name__}")
    if not list(values):
        raise UsageError(
            f"{name + ': ' if name else ''}want at least 1, got 0",
            hint='an empty list accepts nothing; "any" must be written out',
        )
