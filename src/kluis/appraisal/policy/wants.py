"""Requirements on one claim; each kind can judge a value, be shown, and be written as TOML.

``ANY`` is a requirement like the others: a policy states it explicitly, or does not load. An allow-list is
never empty. If the evidence does not have a claim, only ``ANY`` is met.
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
    """Accepts every value, and no value."""

    def meets(self, got: Value) -> bool:
        """True."""
        return True

    def __str__(self) -> str:
        return "any"

    def toml(self) -> str:
        """In a policy's form."""
        return '"any"'


ANY: Final = Any()


@dataclasses.dataclass(frozen=True, slots=True)
class Referenced:
    """A reference value, which is supplied separately; not met until then."""

    def meets(self, got: Value) -> bool:
        """False: no reference value was given for this TEE."""
        return False

    def __str__(self) -> str:
        return "a reference value, and none was given"

    def toml(self) -> str:
        """In a policy's form."""
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
        """In a policy's form."""
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
        """In a policy's form."""
        return listed(self.values)


@dataclasses.dataclass(frozen=True, slots=True)
class AtLeast:
    """The least number or version: ``1.55.21`` has three parts, of which the first is the most significant.

    Attributes:
        value: the least.
    """

    value: int | tuple[int, ...]

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is at least the value; versions must have the same number of parts."""
        if isinstance(self.value, tuple):
            return isinstance(got, tuple) and len(got) == len(self.value) and got >= self.value
        return isinstance(got, int) and not isinstance(got, bool) and got >= self.value

    def __str__(self) -> str:
        return f"at least {shown(self.value)}"

    def toml(self) -> str:
        """In a policy's form."""
        return str(self.value) if isinstance(self.value, int) else f'"{shown(self.value)}"'


@dataclasses.dataclass(frozen=True, slots=True)
class AtMost:
    """The greatest number, such as an age in seconds.

    Attributes:
        value: the most.
    """

    value: int

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is at most the value, and not negative."""
        return isinstance(got, int) and not isinstance(got, bool) and 0 <= got <= self.value

    def __str__(self) -> str:
        return f"at most {self.value} s"

    def toml(self) -> str:
        """In a policy's form."""
        return str(self.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Exactly:
    """One number.

    Attributes:
        value: the number.
    """

    value: int

    def meets(self, got: Value) -> bool:
        """Whether ``got`` equals it."""
        return not isinstance(got, bool) and got == self.value

    def __str__(self) -> str:
        return str(self.value)

    def toml(self) -> str:
        """In a policy's form."""
        return str(self.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Allowed:
    """Whether a weakness is accepted; met in any case if the weakness is absent.

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
        """In a policy's form."""
        return "true" if self.value else "false"


@dataclasses.dataclass(frozen=True, slots=True)
class Required:
    """Whether a strength is required; met in any case if the strength is present.

    Attributes:
        value: true requires it.
    """

    value: bool

    def meets(self, got: Value) -> bool:
        """Whether ``got`` is true, or not required."""
        return got is True or (not self.value and got is False)

    def __str__(self) -> str:
        return "yes" if self.value else "yes or no"

    def toml(self) -> str:
        """In a policy's form."""
        return "true" if self.value else "false"


@dataclasses.dataclass(frozen=True, slots=True)
class Masked:
    """Some bits of a number of 64 or 128 bits.

    Attributes:
        mask: the compared bits, at least one.
        value: the required bits.
    """

    mask: int
    value: int

    def __post_init__(self) -> None:
        if not self.mask or self.value & ~self.mask:
            raise UsageError(
                f"want a mask with bits, and a value within it, got {self.mask:#x}, {self.value:#x}"
            )

    def meets(self, got: Value) -> bool:
        """Whether those bits of ``got`` match."""
        return not isinstance(got, bool) and isinstance(got, int) and got & self.mask == self.value

    def __str__(self) -> str:
        return f"{self.value:#x} under {self.mask:#x}"

    def toml(self) -> str:
        """In a policy's form."""
        return f'{{ mask = "{self.mask:x}", value = "{self.value:x}" }}'


@dataclasses.dataclass(frozen=True, slots=True)
class Registers:
    """Registers by name, each with its accepted values; others are ignored.

    Attributes:
        values: at least one register, each with at least one value.
    """

    values: Mapping[str, frozenset[bytes]]

    def __post_init__(self) -> None:
        some(self.values)
        for name, each in self.values.items():
            some(each, name)

    def meets(self, got: Value) -> bool:
        """Whether every named register is present with an accepted value."""
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
        """In a policy's form."""
        return table(self.values, lambda each: OneOf(each).toml())


@dataclasses.dataclass(frozen=True, slots=True)
class Components:
    """The least security versions of a product's parts; a product that is not listed is refused.

    Attributes:
        products: at least one, each with at least one part.
    """

    products: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        some(self.products)
        for name, parts in self.products.items():
            some(parts, name)

    def meets(self, got: Value) -> bool:
        """Whether every part of the product in ``got`` has reached its version, compared one by one."""
        if not isinstance(got, Product):
            return False
        least = self.products.get(got.name)
        return least is not None and all(got.get(part, -1) >= svn for part, svn in least.items())

    def __str__(self) -> str:
        return " or ".join(f"{name} {parts_of(parts)}" for name, parts in sorted(self.products.items()))

    def toml(self) -> str:
        """In a policy's form."""
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
    """Refuse an empty list: it would accept nothing, although people mean everything.

    Refuse text, too, because ``in`` matches substrings: "process" is in "process-user".
    """
    if isinstance(values, str | bytes):
        raise UsageError(f"{name + ': ' if name else ''}want a set of values, got {type(values).__name__}")
    if not list(values):
        raise UsageError(
            f"{name + ': ' if name else ''}want at least 1, got 0",
            hint='an empty list accepts nothing; "any" must be written out',
        )
