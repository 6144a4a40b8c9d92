"""Requirements of several parts: bits under a mask, registers by name, parts of a product."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Self

from kluis.appraisal.policy.toml_tables import Table, from_hex
from kluis.appraisal.policy.values import Product, Value, sort_naturally, table
from kluis.appraisal.policy.values import parts as parts_of
from kluis.appraisal.policy.wants import Form, OneOf, Stated, build_named, some
from kluis.errors import FormatError, UsageError
from kluis.frozen import frozen
from kluis.hashes import SIZES, Digest

DIGESTS: Final = tuple(SIZES.values())


@frozen
class Masked(Stated):
    """Some bits of a number of 64 or 128 bits: ``{ mask = "hex", value = "hex" }``.

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

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        within = table.table(key)
        mask, value = (_bits(within, name, form.width) for name in ("mask", "value"))
        within.end()
        return build_named(within.name, lambda: cls(mask, value))

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        if not isinstance(got, int) or isinstance(got, bool):
            return None
        return cls(form.mask, got & form.mask)

    def meets(self, got: Value) -> bool:
        return not isinstance(got, bool) and isinstance(got, int) and got & self.mask == self.value

    def __str__(self) -> str:
        return f"{self.value:#x} under {self.mask:#x}"

    def toml(self) -> str:
        return f'{{ mask = "{self.mask:x}", value = "{self.value:x}" }}'


@frozen
class Registers(Stated):
    """Registers by name, at least one, each with its accepted values; others are ignored."""

    values: Mapping[str, frozenset[bytes]]

    def __post_init__(self) -> None:
        some(self.values)
        for name, each in self.values.items():
            some(each, name)

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        within = table.table(key)
        values: dict[str, frozenset[bytes]] = {}
        for name in within.keys:
            if not re.fullmatch(form.pattern, name):
                raise FormatError(
                    f"{within.name}.{name}: is no register of this TEE",
                    hint="kluis verify --json shows what the registers of evidence are called",
                    code="bad_type",
                )
            values[name] = within.hexes(name)
            if wrong := [each for each in values[name] if len(each) not in DIGESTS]:
                raise UsageError(f"{within.name}.{name}: want a digest, got {len(wrong[0])} bytes")
        return build_named(within.name, lambda: cls(values))

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        if not isinstance(got, Mapping):
            return None
        wanted = {
            name: frozenset({digest.value})
            for name, digest in got.items()
            if isinstance(digest, Digest) and re.fullmatch(form.drafted or form.pattern, name)
        }
        return cls(wanted) if wanted else None

    def meets(self, got: Value) -> bool:
        return isinstance(got, Mapping) and not self.failing(got)

    def failing(self, got: Mapping[str, int] | Mapping[str, Digest]) -> list[str]:
        """The registers that are missing, or have another value."""
        wrong = []
        for name, values in sort_naturally(self.values):
            digest = got.get(name)
            if not isinstance(digest, Digest) or not OneOf(values).meets(digest.value):
                wrong.append(name)
        return wrong

    def __str__(self) -> str:
        return ", ".join(f"{name} {OneOf(each)}" for name, each in sort_naturally(self.values))

    def toml(self) -> str:
        return table(self.values, lambda each: OneOf(each).toml())


@frozen
class Components(Stated):
    """The least security versions of a product's parts; a product that is not listed is refused."""

    products: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        some(self.products)
        for name, parts in self.products.items():
            some(parts, name)

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        within = table.table(key)
        components: dict[str, dict[str, int]] = {}
        for name in within.keys:
            if name not in form.products:
                raise FormatError(
                    f"{within.name}.{name}: want some of {', '.join(form.products)}", code="bad_type"
                )
            parts = within.table(name)
            components[name] = {part: parts.number(part, 255) for part in form.products[name]}
            parts.end()
        return build_named(within.name, lambda: cls(components))

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        return cls({got.name: dict(got)}) if isinstance(got, Product) else None

    def meets(self, got: Value) -> bool:
        """Whether every part of the product in ``got`` has reached its version, compared one by one."""
        if not isinstance(got, Product):
            return False
        least = self.products.get(got.name)
        return least is not None and all(got.get(part, -1) >= svn for part, svn in least.items())

    def __str__(self) -> str:
        return " or ".join(f"{name} {parts_of(parts)}" for name, parts in sorted(self.products.items()))

    def toml(self) -> str:
        return table(self.products, lambda parts: table(parts, str))


def _bits(table: Table, key: str, width: int) -> int:
    name = f"{table.name}.{key}"
    text = table.take(key, str)
    digits = text.rjust(len(text) + len(text) % 2, "0")
    number = int.from_bytes(from_hex(digits, name))
    if not text or number >> width:
        raise FormatError(f"{name}: want at most {width} bits in hex", code="bad_encoding")
    return number
