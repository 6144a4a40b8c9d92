"""The forms of requirements in a policy: parsed from TOML, and drafted from evidence.

Every form accepts ``"any"``; an empty list is refused. If the evidence has no value, the draft is ``any``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from kluis.appraisal.policy.toml_tables import Table, from_hex
from kluis.appraisal.policy.values import Product, Value
from kluis.appraisal.policy.wants import (
    ANY,
    REFERENCE,
    Allowed,
    AtLeast,
    AtMost,
    Components,
    Exactly,
    Masked,
    Named,
    OneOf,
    Registers,
    Required,
    Want,
)
from kluis.errors import FormatError, UsageError
from kluis.hashes import SIZES, Digest

_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4})){0,7}", re.ASCII)
_FMSPC: Final = re.compile(r"[0-9A-Fa-f]{12}")
DIGESTS: Final = tuple(SIZES.values())


class Form(Protocol):
    """One way to state a requirement."""

    def read(self, table: Table, key: str) -> Want:
        """Parse the requirement of ``key``.

        Raises:
            FormatError: missing, or in another form.
            UsageError: an empty list.
        """
        ...

    def draft(self, got: Value) -> Want:
        """The strictest requirement that ``got`` meets."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Hexes:
    """A list of byte strings.

    Attributes:
        sizes: allowed sizes of a value; empty allows every size.
        referenced: whether reference values are allowed.
    """

    sizes: tuple[int, ...] = ()
    referenced: bool = False

    def read(self, table: Table, key: str) -> Want:
        if table.any(key):
            return ANY
        if self.referenced and table.any(key, "reference"):
            return REFERENCE
        values, name = table.hexes(key), f"{table.name}.{key}"
        for value in values:
            if self.sizes and len(value) not in self.sizes:
                sizes = " or ".join(map(str, self.sizes))
                raise UsageError(f"{name}: want {sizes} bytes, got {len(value)}")
        return _named(name, lambda: OneOf(values))

    def draft(self, got: Value) -> Want:
        return OneOf(frozenset({got})) if isinstance(got, bytes) and got else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """A list of names.

    Attributes:
        known: the valid names; empty allows every name.
        fmspcs: whether they are FMSPCs, whose hex is in capitals in evidence and in any case in a policy.
    """

    known: tuple[str, ...] = ()
    fmspcs: bool = False

    def read(self, table: Table, key: str) -> Want:
        if table.any(key):
            return ANY
        values = table.known(key, self.known) if self.known else table.texts(key)
        if self.fmspcs:
            values = frozenset(each.upper() if _FMSPC.fullmatch(each) else each for each in values)
        return _named(f"{table.name}.{key}", lambda: Named(values))

    def draft(self, got: Value) -> Want:
        return Named(frozenset({got})) if isinstance(got, str) and got else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Numbers:
    """A list of whole numbers, each 0..``most``."""

    most: int

    def read(self, table: Table, key: str) -> Want:
        if table.any(key):
            return ANY
        values = table.numbers(key, self.most)
        return _named(f"{table.name}.{key}", lambda: Named(values))

    def draft(self, got: Value) -> Want:
        return Named(frozenset({got})) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """One whole number, 0..``most``."""

    most: int

    def read(self, table: Table, key: str) -> Want:
        return ANY if table.any(key) else Exactly(table.number(key, self.most))

    def draft(self, got: Value) -> Want:
        return Exactly(got) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Least:
    """The least whole number, 0..``most``."""

    most: int

    def read(self, table: Table, key: str) -> Want:
        return ANY if table.any(key) else AtLeast(table.number(key, self.most))

    def draft(self, got: Value) -> Want:
        return AtLeast(got) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Most:
    """The maximum, as an age in seconds: a whole number, 0..``most``.

    Attributes:
        drafted: the value in a draft, whatever the evidence has.
    """

    most: int
    drafted: int

    def read(self, table: Table, key: str) -> Want:
        return ANY if table.any(key) else AtMost(table.number(key, self.most))

    def draft(self, got: Value) -> Want:
        return AtMost(self.drafted) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class LeastVersion:
    """The least version, such as ``"1.55.21"``.

    Attributes:
        parts: number of its parts.
    """

    parts: int

    def read(self, table: Table, key: str) -> Want:
        if table.any(key):
            return ANY
        text = table.take(key, str)
        if not _VERSION.fullmatch(text) or text.count(".") != self.parts - 1:
            raise FormatError(
                f"{table.name}.{key}: want a version of {self.parts} numbers, got {text[:64]!a}",
                code="bad_encoding",
            )
        return AtLeast(tuple(map(int, text.split("."))))

    def draft(self, got: Value) -> Want:
        return AtLeast(got) if isinstance(got, tuple) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Allow:
    """Whether a weakness is accepted: true or false."""

    def read(self, table: Table, key: str) -> Want:
        return ANY if table.any(key) else Allowed(table.take(key, bool))

    def draft(self, got: Value) -> Want:
        return Allowed(got) if isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Require:
    """Whether a strength is required: true or false."""

    def read(self, table: Table, key: str) -> Want:
        return ANY if table.any(key) else Required(table.take(key, bool))

    def draft(self, got: Value) -> Want:
        return Required(got) if isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Bits:
    """Some bits of a number: ``{ mask = "hex", value = "hex" }``.

    Attributes:
        width: of the number, in bits.
        mask: the bits that a draft requires.
    """

    width: int
    mask: int

    def read(self, table: Table, key: str) -> Want:
        if table.any(key):
            return ANY
        within = table.table(key)
        mask, value = (self._number(within, name) for name in ("mask", "value"))
        within.end()
        return _named(within.name, lambda: Masked(mask, value))

    def _number(self, table: Table, key: str) -> int:
        name = f"{table.name}.{key}"
        text = table.take(key, str)
        digits = text.rjust(len(text) + len(text) % 2, "0")
        number = int.from_bytes(from_hex(digits, name))
        if not text or number >> self.width:
            raise FormatError(f"{name}: want at most {self.width} bits in hex", code="bad_encoding")
        return number

    def draft(self, got: Value) -> Want:
        if not isinstance(got, int) or isinstance(got, bool):
            return ANY
        return Masked(self.mask, got & self.mask)


@dataclasses.dataclass(frozen=True, slots=True)
class RegisterValues:
    """Registers by name, each with a list of accepted values.

    Attributes:
        pattern: of names.
        drafted: the names in a draft; None drafts all.
        referenced: whether reference values are allowed.
    """

    pattern: str
    drafted: str | None = None
    referenced: bool = False

    def read(self, table: Table, key: str) -> Want:
        if table.any(key):
            return ANY
        if self.referenced and table.any(key, "reference"):
            return REFERENCE
        within = table.table(key)
        values: dict[str, frozenset[bytes]] = {}
        for name in within.keys:
            if not re.fullmatch(self.pattern, name):
                raise FormatError(
                    f"{within.name}.{name}: is no register of this TEE",
                    hint="kluis verify --json shows what the registers of evidence are called",
                    code="bad_type",
                )
            values[name] = within.hexes(name)
            if wrong := [each for each in values[name] if len(each) not in DIGESTS]:
                raise UsageError(f"{within.name}.{name}: want a digest, got {len(wrong[0])} bytes")
        return _named(within.name, lambda: Registers(values))

    def draft(self, got: Value) -> Want:
        if not isinstance(got, Mapping):
            return ANY
        held = {
            name: frozenset({digest.value})
            for name, digest in got.items()
            if isinstance(digest, Digest) and re.fullmatch(self.drafted or self.pattern, name)
        }
        return Registers(held) if held else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class LeastComponents:
    """The least versions of the parts of each accepted product.

    Attributes:
        products: the parts of each product, all of which must be stated.
    """

    products: Mapping[str, tuple[str, ...]]

    def read(self, table: Table, key: str) -> Want:
        if table.any(key):
            return ANY
        within = table.table(key)
        found: dict[str, dict[str, int]] = {}
        for name in within.keys:
            if name not in self.products:
                raise FormatError(
                    f"{within.name}.{name}: want some of {', '.join(self.products)}", code="bad_type"
                )
            parts = within.table(name)
            found[name] = {part: parts.number(part, 255) for part in self.products[name]}
            parts.end()
        return _named(within.name, lambda: Components(found))

    def draft(self, got: Value) -> Want:
        return Components({got.name: dict(got)}) if isinstance(got, Product) else ANY


def _named(name: str, make: Callable[[], Want]) -> Want:
    """Build a requirement; if it is refused, name its place in the policy."""
    try:
        return make()
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", hint=error.hint) from None
