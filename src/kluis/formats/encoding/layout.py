"""Fixed structures declared as the vendor's table: offset, size, name.

Integers are little-endian unless the table has ``byte_order="big"``. One table produces the reader, the
writer and two checks: no two fields overlap, and bytes that no field claims are zero. Each table is compiled
into one ``struct.Struct`` when its class is created.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, cast, dataclass_transform, overload

from kluis.errors import FormatError, UsageError
from kluis.frozen import frozen

Order = Literal["little", "big"]


@frozen
class Integer:
    """An unsigned integer of 1, 2, 4 or 8 bytes, in the byte order of its table."""

    size: int
    code: str


U8: Final = Integer(1, "B")
U16: Final = Integer(2, "H")
U32: Final = Integer(4, "I")
U64: Final = Integer(8, "Q")


class Struct:
    """Base of every structure: ``parse`` from its exact bytes, and ``encode`` back to them."""

    __slots__ = ()
    NAME: ClassVar[str]
    SIZE: ClassVar[int]
    _table: ClassVar[_Table]

    @classmethod
    def parse(cls, data: bytes | memoryview, *, base: int = 0) -> Self:
        """Read one structure of exactly ``SIZE`` bytes.

        Args:
            data: the bytes, no more and no fewer.
            base: offset of ``data`` in what the caller reads, for messages.

        Raises:
            FormatError: another length, or a byte that no field claims is not zero.
        """
        table = cls._table
        if len(data) != cls.SIZE:
            raise FormatError(
                f"{cls.NAME} at {base:#x}: is {len(data)} bytes, must be {cls.SIZE}",
                code="truncated" if len(data) < cls.SIZE else "trailing_data",
            )
        values = table.compiled.unpack(data)
        if table.gaps(values) != table.zeros:
            raise _not_zero(cls.NAME, table, bytes(data), base)
        chosen = table.fields(values)
        if table.nested:
            parts = list(chosen)
            for index, kind, offset in table.nested:
                parts[index] = kind.parse(parts[index], base=base + offset)
            return cls(*parts)
        return cls(*chosen)

    def encode(self) -> bytes:
        """Write the structure: always ``SIZE`` bytes.

        Raises:
            UsageError: a value does not fit its field.
        """
        out = bytearray(self.SIZE)
        for name, field in self._table.items:
            value = getattr(self, name)
            raw = _raw(self.NAME, name, field, value, self._table.byte_order)
            out[field.offset : field.offset + field.size] = raw
        return bytes(out)


S = TypeVar("S", bound=Struct)


@frozen
class _Field:
    offset: int
    size: int
    kind: Integer | int | type[Struct]


@frozen
class _Table:
    compiled: struct.Struct
    items: tuple[tuple[str, _Field], ...]
    fields: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    gaps: Callable[[tuple[Any, ...]], tuple[bytes, ...]]
    zeros: tuple[bytes, ...]
    spans: tuple[tuple[int, int], ...]
    nested: tuple[tuple[int, type[Struct], int], ...]
    byte_order: Order


@overload
def at(offset: int, kind: Integer) -> int: ...
@overload
def at(offset: int, kind: int) -> bytes: ...
@overload
def at(offset: int, kind: type[S]) -> S: ...
def at(offset: int, kind: Integer | int | type[Struct]) -> Any:
    """Place a field at ``offset``: an integer, so many bytes, or another structure."""
    if isinstance(kind, Integer):
        return _Field(offset, kind.size, kind)
    return _Field(offset, kind if isinstance(kind, int) else kind.SIZE, kind)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(at,))
def layout(name: str, size: int, *, byte_order: Order = "little") -> Callable[[type[S]], type[S]]:
    """Make a class whose fields are ``at(...)`` places the structure ``name`` of ``size`` bytes.

    Args:
        name: for messages.
        size: bytes.
        byte_order: of each integer.

    Raises:
        TypeError: when the class is made, if two fields overlap or one passes the end.
    """

    def compile_class(cls: type[S]) -> type[S]:
        fields: dict[str, _Field] = {}
        for base in reversed(cls.__mro__[1:]):
            if "_table" in base.__dict__:
                fields.update(cast("type[Struct]", base)._table.items)
        own = {key: value for key, value in vars(cls).items() if isinstance(value, _Field)}
        fields.update(own)
        for key in own:
            delattr(cls, key)
        made = frozen(cls)
        made.NAME, made.SIZE, made._table = name, size, _compile(name, size, fields, byte_order)
        return made

    return compile_class


def _compile(name: str, size: int, fields: dict[str, _Field], byte_order: Order) -> _Table:
    by_offset = sorted(fields, key=lambda key: fields[key].offset)
    code, places, spans, position = "<" if byte_order == "little" else ">", {}, [], 0
    slot = 0
    for key in [*by_offset, None]:
        start = size if key is None else fields[key].offset
        if start < position or start > size:
            raise TypeError(f"{name}.{key or 'end'}: overlaps the field before it, or passes the end")
        if start > position:
            code += f"{start - position}s"
            spans.append((slot, position))
            slot += 1
        if key is not None:
            field = fields[key]
            code += field.kind.code if isinstance(field.kind, Integer) else f"{field.size}s"
            places[key] = slot
            slot += 1
            position = start + field.size
    compiled = struct.Struct(code)
    sizes = [part for _, part in _parts(code)]
    return _Table(
        compiled=compiled,
        items=tuple(fields.items()),
        fields=_getter([places[key] for key in fields]),
        gaps=_getter([slot for slot, _ in spans]),
        zeros=tuple(bytes(sizes[slot]) for slot, _ in spans),
        spans=tuple(spans),
        nested=tuple(
            (index, field.kind, field.offset)
            for index, field in enumerate(fields.values())
            if isinstance(field.kind, type)
        ),
        byte_order=byte_order,
    )


def _parts(code: str) -> Iterator[tuple[str, int]]:
    count = ""
    for letter in code[1:]:
        if letter.isdigit():
            count += letter
        else:
            yield letter, int(count or 1)
            count = ""


def _getter(indices: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    if not indices:
        return lambda values: ()
    if len(indices) == 1:
        only = indices[0]
        return lambda values: (values[only],)
    return operator.itemgetter(*indices)


def _not_zero(name: str, table: _Table, data: bytes, base: int) -> FormatError:
    reserved = (
        offset
        for (_, start), zeros in zip(table.spans, table.zeros, strict=True)
        for offset in range(start, start + len(zeros))
    )
    offset = next(offset for offset in reserved if data[offset])
    return FormatError(
        f"{name}.reserved at {base + offset:#x}: must be zero, found {data[offset]:#04x}", code="bad_encoding"
    )


def _raw(name: str, key: str, field: _Field, value: Any, byte_order: Order) -> bytes:
    if isinstance(field.kind, Integer):
        if not 0 <= value < 1 << 8 * field.size:
            raise UsageError(f"{name}.{key}: want {field.size} unsigned bytes, got {value}")
        return cast("int", value).to_bytes(field.size, byte_order)
    raw = value.encode() if isinstance(field.kind, type) else bytes(value)
    if len(raw) != field.size:
        raise UsageError(f"{name}.{key}: want {field.size} bytes, got {len(raw)}")
    return raw
