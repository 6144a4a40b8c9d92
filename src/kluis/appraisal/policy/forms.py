"""How each kind of want stands in a policy: read from TOML, and drafted from what evidence has.

Every form takes ``"any"``; an empty list is refused. Of what evidence does not have, the draft is ``any``.
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
    """One way to state a want."""

    def read(self, table: Table, key: str) -> Want:
        """Take the want of ``key``.

        Raises:
            FormatError: not stated, or stated in another form.
            UsageError: an empty list.
        """
        ...

    def draft(self, got: Value) -> Want:
        """The strictest want that ``got`` meets."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Hexes:
    """A list of byte strings.

    Attributes:
        sizes: of one value; empty takes every size.
        referenced: whether reference values may be wanted.
    """

    sizes: tuple[int, ...] = ()
    referenced: bool = False

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
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
        """See :class:`Form`."""
        return OneOf(frozenset({got})) if isinstance(got, bytes) and got else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """A list of names.

    Attributes:
        known: the ones there are; empty takes every name.
        fmspcs: whether they are FMSPCs, whose hex evidence has in capitals and a policy in any case.
    """

    known: tuple[str, ...] = ()
    fmspcs: bool = False

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
        if table.any(key):
            return ANY
        values = table.known(key, self.known) if self.known else table.texts(key)
        if self.fmspcs:
            values = frozenset(each.upper() if _FMSPC.fullmatch(each) else each for each in values)
        return _named(f"{table.name}.{key}", lambda: Named(values))

    def draft(self, got: Value) -> Want:
        """See :class:`Form`."""
        return Named(frozenset({got})) if isinstance(got, str) and got else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Numbers:
    """A list of whole numbers, each 0..``most``."""

    most: int

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
        if table.any(key):
            return ANY
        values = table.numbers(key, self.most)
        return _named(f"{table.name}.{key}", lambda: Named(values))

    def draft(self, got: Value) -> Want:
        """See :class:`Form`."""
        return Named(frozenset({got})) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """One whole number, 0..``most``."""

    most: int

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
        return ANY if table.any(key) else Exactly(table.number(key, self.most))

    def draft(self, got: Value) -> Want:
        """See :class:`Form`."""
        return Exactly(got) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Least:
    """The least whole number, 0..``most``."""

    most: int

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
        return ANY if table.any(key) else AtLeast(table.number(key, self.most))

    def draft(self, got: Value) -> Want:
        """See :class:`Form`."""
        return AtLeast(got) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Most:
    """The most, as an age in seconds: a whole number, 0..``most``.

    Attributes:
        drafted: what a draft says, whatever the evidence has.
    """

    most: int
    drafted: int

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
        return ANY if table.any(key) else AtMost(table.number(key, self.most))

    def draft(self, got: Value) -> Want:
        """See :class:`Form`."""
        return AtMost(self.drafted) if isinstance(got, int) and not isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class LeastVersion:
    """The least version, as ``"1.55.21"``.

    Attributes:
        parts: how many it has.
    """

    parts: int

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
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
        """See :class:`Form`."""
        return AtLeast(got) if isinstance(got, tuple) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Allow:
    """Whether something that weakens is accepted: true or false."""

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
        return ANY if table.any(key) else Allowed(table.take(key, bool))

    def draft(self, got: Value) -> Want:
        """See :class:`Form`."""
        return Allowed(got) if isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Require:
    """Whether something that strengthens is wanted: true or false."""

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
        return ANY if table.any(key) else Required(table.take(key, bool))

    def draft(self, got: Value) -> Want:
        """See :class:`Form`."""
        return Required(got) if isinstance(got, bool) else ANY


@dataclasses.dataclass(frozen=True, slots=True)
class Bits:
    """Some bits of a number: ``{ mask = "hex", value = "hex" }``.

    Attributes:
        width: of the number, in bits.
        mask: that a draft looks at.
    """

    width: int
    mask: int

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
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
        """See :class:`Form`."""
        if not isinstance(got, int) or isinstance(got, bool):
            return ANY
        return Masked(self.mask, got & self.mask)


@dataclasses.dataclass(frozen=True, slots=True)
class RegisterValues:
    """Registers by name, each with a list of the values it may have.

    Attributes:
        pattern: of names.
        drafted: the names that a draft holds; None drafts all.
        referenced: whether reference values may be wanted.
    """

    pattern: str
    drafted: str | None = None
    referenced: bool = False

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
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
        """See :class:`Form`."""
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
    """For each product that is accepted, the least versions of its parts.

    Attributes:
        products: the parts that each product has, all of which must be stated.
    """

    products: Mapping[str, tuple[str, ...]]

    def read(self, table: Table, key: str) -> Want:
        """See :class:`Form`."""
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
        """See :class:`Form`."""
        return Components({got.name: dict(got)}) if isinstance(got, Product) else ANY


def _named(name: str, make: Callable[[], Want]) -> Want:
    """Make a want, and say where it stands if it is refused."""
    try:
        return make()
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", hint=error.hint) from None
