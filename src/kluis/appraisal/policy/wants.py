"""Requirements on one claim: each kind is read from a policy, judges a value, and is written as TOML.

``ANY`` is a requirement like the others: a policy states it explicitly, or does not load. An allow-list is
never empty. If the evidence does not have a claim, only ``ANY`` is met. What one key of a policy may hold is
a :class:`Form`; requirements of several parts are in :mod:`kluis.appraisal.policy.structured`.
"""

from __future__ import annotations

import abc
import dataclasses
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Self, TypeGuard, TypeVar

from kluis.appraisal.policy.toml_tables import Table
from kluis.appraisal.policy.values import Value, either, format_list, format_value
from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.brief import short
from kluis.frozen import frozen

T = TypeVar("T")

_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4})){0,7}", re.ASCII)
_FMSPC: Final = re.compile(r"[0-9A-Fa-f]{12}")


class Want(abc.ABC):
    """A requirement on one claim; ``str`` shows it to people."""

    __slots__ = ()

    @abc.abstractmethod
    def meets(self, got: Value) -> bool:
        """Whether ``got`` meets it."""

    @abc.abstractmethod
    def toml(self) -> str:
        """The requirement as a policy states it."""


@frozen
class Any(Want):
    """Accepts every value, and no value."""

    def meets(self, got: Value) -> bool:
        return True

    def __str__(self) -> str:
        return "any"

    def toml(self) -> str:
        return '"any"'


@frozen
class Referenced(Want):
    """A reference value, which is supplied separately; not met until then."""

    def meets(self, got: Value) -> bool:
        return False

    def __str__(self) -> str:
        return "a reference value, and none was given"

    def toml(self) -> str:
        return '"reference"'


ANY: Final = Any()
REFERENCE: Final = Referenced()


class Stated(Want):
    """A requirement that a policy states by a value."""

    __slots__ = ()

    @classmethod
    @abc.abstractmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        """Parse the requirement of ``key``, within the bounds of ``form``.

        Raises:
            FormatError: missing, or in another form.
            UsageError: an empty list.
        """

    @classmethod
    @abc.abstractmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        """The strictest requirement that ``got`` meets; None if it is no value of this kind."""


@frozen
class Form:
    """What one key of a policy may hold: requirements of one kind within bounds, or ``"any"``.

    Attributes:
        want: the kind.
        sizes: of a byte string; empty allows every size.
        known: the valid names; empty allows every name.
        fmspcs: whether names are FMSPCs, whose hex is in capitals in evidence and in any case in a policy.
        most: the greatest number; None if the values are no numbers.
        parts: number of the parts of a version.
        width: of a number whose bits are compared, in bits.
        mask: the bits that a draft requires.
        pattern: of names of registers.
        drafted: of the registers in a draft; None drafts all.
        age_seconds: in a draft, whatever the evidence has.
        products: the parts of each product, all of which must be stated.
        referenced: whether reference values are allowed.
    """

    want: type[Stated]
    _: dataclasses.KW_ONLY
    sizes: tuple[int, ...] = ()
    known: tuple[str, ...] = ()
    fmspcs: bool = False
    most: int | None = None
    parts: int = 0
    width: int = 0
    mask: int = 0
    pattern: str = ""
    drafted: str | None = None
    age_seconds: int = 0
    products: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    referenced: bool = False

    def read(self, table: Table, key: str) -> Want:
        """Parse the requirement of ``key``.

        Raises:
            FormatError: missing, or in another form.
            UsageError: an empty list.
        """
        if table.any(key):
            return ANY
        if self.referenced and table.any(key, "reference"):
            return REFERENCE
        return self.want.read(self, table, key)

    def draft(self, got: Value) -> Want:
        """The strictest requirement that ``got`` meets; ``any`` if the evidence has no value."""
        return self.want.draft(self, got) or ANY

    def number(self, table: Table, key: str) -> int:
        """Parse a whole number, 0..``most``.

        Raises:
            FormatError: missing, another kind of value, or out of bounds.
        """
        return table.number(key, self.most or 0)


@frozen
class OneOf(Stated):
    """One of these byte strings, at least one, compared in full."""

    values: frozenset[bytes]

    def __post_init__(self) -> None:
        some(self.values)

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        values, name = table.hexes(key), f"{table.name}.{key}"
        for value in values:
            if form.sizes and len(value) not in form.sizes:
                sizes = " or ".join(map(str, form.sizes))
                raise UsageError(f"{name}: want {sizes} bytes, got {len(value)}")
        return build_named(name, lambda: cls(values))

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        return cls(frozenset({got})) if isinstance(got, bytes) and got else None

    def meets(self, got: Value) -> bool:
        return isinstance(got, bytes) and any(hmac.compare_digest(got, each) for each in self.values)

    def __str__(self) -> str:
        return either(map(short, self.values))

    def toml(self) -> str:
        return format_list(each.hex() for each in self.values)


@frozen
class Named(Stated):
    """One of these names, or numbers; at least one."""

    values: frozenset[str] | frozenset[int]

    def __post_init__(self) -> None:
        some(self.values)

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        name = f"{table.name}.{key}"
        if form.most is not None:
            numbers = table.numbers(key, form.most)
            return build_named(name, lambda: cls(numbers))
        values = table.known_texts(key, form.known) if form.known else table.texts(key)
        if form.fmspcs:
            values = frozenset(each.upper() if _FMSPC.fullmatch(each) else each for each in values)
        return build_named(name, lambda: cls(values))

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        if form.most is not None:
            return cls(frozenset({got})) if _is_number(got) else None
        return cls(frozenset({got})) if isinstance(got, str) and got else None

    def meets(self, got: Value) -> bool:
        return not isinstance(got, bool) and isinstance(got, str | int) and got in self.values

    def __str__(self) -> str:
        return either(self.values)

    def toml(self) -> str:
        return format_list(self.values)


@frozen
class AtLeast(Stated):
    """The least number or version: ``1.55.21`` has three parts, the first is the most significant."""

    value: int | tuple[int, ...]

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        if not form.parts:
            return cls(form.number(table, key))
        text = table.take(key, str)
        if not _VERSION.fullmatch(text) or text.count(".") != form.parts - 1:
            raise FormatError(
                f"{table.name}.{key}: want a version of {form.parts} numbers, got {text[:64]!a}",
                code="bad_encoding",
            )
        return cls(tuple(map(int, text.split("."))))

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        if form.parts:
            return cls(got) if isinstance(got, tuple) else None
        return cls(got) if _is_number(got) else None

    def meets(self, got: Value) -> bool:
        if isinstance(self.value, tuple):
            return isinstance(got, tuple) and len(got) == len(self.value) and got >= self.value
        return _is_number(got) and got >= self.value

    def __str__(self) -> str:
        return f"at least {format_value(self.value)}"

    def toml(self) -> str:
        return str(self.value) if isinstance(self.value, int) else f'"{format_value(self.value)}"'


@dataclasses.dataclass(frozen=True, slots=True)
class _Number(Stated):
    value: int

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        return cls(form.number(table, key))

    def toml(self) -> str:
        return str(self.value)


class AtMost(_Number):
    """The greatest number, such as an age in seconds."""

    __slots__ = ()

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        return cls(form.age_seconds) if _is_number(got) else None

    def meets(self, got: Value) -> bool:
        return _is_number(got) and 0 <= got <= self.value

    def __str__(self) -> str:
        return f"at most {self.value} s"


class Exactly(_Number):
    """One number."""

    __slots__ = ()

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        return cls(got) if _is_number(got) else None

    def meets(self, got: Value) -> bool:
        return not isinstance(got, bool) and got == self.value

    def __str__(self) -> str:
        return str(self.value)


@dataclasses.dataclass(frozen=True, slots=True)
class _Flag(Stated):
    value: bool

    @classmethod
    def read(cls, form: Form, table: Table, key: str) -> Self:
        return cls(table.take(key, bool))

    @classmethod
    def draft(cls, form: Form, got: Value) -> Self | None:
        return cls(got) if isinstance(got, bool) else None

    def toml(self) -> str:
        return "true" if self.value else "false"


class Allowed(_Flag):
    """Whether a weakness is accepted; met in any case if the weakness is absent."""

    __slots__ = ()

    def meets(self, got: Value) -> bool:
        return got is False or (self.value and got is True)

    def __str__(self) -> str:
        return "yes or no" if self.value else "no"


class Required(_Flag):
    """Whether a strength is required; met in any case if the strength is present."""

    __slots__ = ()

    def meets(self, got: Value) -> bool:
        return got is True or (not self.value and got is False)

    def __str__(self) -> str:
        return "yes" if self.value else "yes or no"


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


def build_named(name: str, make: Callable[[], T]) -> T:
    """Build a requirement; if it is refused, name its place in the policy."""
    try:
        return make()
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", hint=error.hint) from None


def _is_number(got: Value) -> TypeGuard[int]:
    return isinstance(got, int) and not isinstance(got, bool)
