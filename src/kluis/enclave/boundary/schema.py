"""Convert Python types to the interface's type language, and refuse those that may not cross.

A type is a JSON object: ``{"kind": "int", "ge": 0}``, ``{"kind": "list", "items": ...}``, or ``{"ref":
"Person"}`` with the class under the interface's ``types``. It contains everything that the boundary enforces,
so that a reviewer sees what the code inside accepts.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import msgspec.inspect as mi

from kluis.enclave.boundary import depth
from kluis.enclave.boundary.table import Table
from kluis.enclave.names import MAX_NODES, class_problem, count_problem, name_problem
from kluis.errors import UsageError

Node = dict[str, Any]


def is_table(hint: object) -> bool:
    """Whether a hint is ``Table``, which travels as a separate memory file."""
    return hint is Table


class Schemas:
    """Converts hints to nodes, and collects the classes they name.

    Attributes:
        types: name to node, for every class seen so far.
    """

    def __init__(self) -> None:
        self.types: dict[str, Node] = {}
        self._names: dict[type, str] = {}
        self._nodes = 0

    def node(self, hint: object, where: str) -> Node:
        """Describe one hint.

        Args:
            hint: a resolved type hint.
            where: the place for the error, such as ``mean_age.cohort``.

        Raises:
            UsageError: the type cannot cross the boundary.
        """
        if is_table(hint):
            self._count(where)
            return {"kind": "table"}
        try:
            tree = mi.type_info(hint)
            return self._describe(tree, where)
        except (TypeError, NameError) as error:
            raise UsageError(f"{where}: {error}", hint=ALLOWED, code="interface_type") from None
        except RecursionError:
            raise UsageError(f"{where}: {depth.TOO_DEEP}", code="interface_type") from None

    def _describe(self, tree: mi.Type, where: str) -> Node:
        if isinstance(tree, mi.Metadata):
            return self._describe(tree.type, where)
        self._count(where)
        scalar = SCALARS.get(type(tree))
        if scalar is not None:
            return {"kind": scalar} | _bounds(tree)
        match tree:
            case mi.ListType() | mi.VarTupleType() | mi.SetType() | mi.FrozenSetType():
                kind = SEQUENCES[type(tree)]
                return {"kind": kind, "items": self._describe(tree.item_type, where)} | _bounds(tree)
            case mi.TupleType():
                check_count(tree.item_types, "items", where)
                return {"kind": "tuple", "items": [self._describe(item, where) for item in tree.item_types]}
            case mi.DictType():
                keys, values = self._describe(tree.key_type, where), self._describe(tree.value_type, where)
                return {"kind": "dict", "keys": keys, "values": values} | _bounds(tree)
            case mi.UnionType():
                check_count(tree.types, "alternatives", where)
                return {"kind": "union", "of": [self._describe(one, where) for one in tree.types]}
            case mi.LiteralType():
                check_count(tree.values, "values", where)
                self._count(where, len(tree.values))
                return {
                    "kind": "literal",
                    "values": [write_value(one) for one in sorted(tree.values, key=str)],
                }
            case mi.EnumType():
                self._count(where, len(tree.cls))
                return self._describe_named(tree.cls, lambda: _enum(tree.cls, where), where)
            case mi.StructType() | mi.DataclassType() | mi.NamedTupleType() | mi.TypedDictType():
                return self._describe_named(tree.cls, lambda: self._struct(tree), where)
            case _:
                pass
        name = getattr(getattr(tree, "cls", None), "__qualname__", type(tree).__name__.removesuffix("Type"))
        raise UsageError(f"{where}: {name} cannot cross the boundary", hint=ALLOWED, code="interface_type")

    def _describe_named(self, cls: type, describe: Any, where: str) -> Node:
        name = self._names.get(cls)
        if name is None:
            name = cls.__qualname__.rpartition("<locals>.")[2]
            _refuse(class_problem(name), where)
            if name in self.types:
                raise UsageError(
                    f"{where}: two classes are called {name}",
                    hint="give one of them another name",
                    code="interface_type",
                )
            self._names[cls] = name
            self.types[name] = {}
            check_count(self.types, "classes", where)
            self.types[name] = describe()
        return {"ref": name}

    def _struct(self, tree: mi.StructType | mi.DataclassType | mi.NamedTupleType | mi.TypedDictType) -> Node:
        name = tree.cls.__qualname__
        check_count(tree.fields, "fields", name)
        fields = [self._field(field, f"{name}.{field.encode_name}") for field in tree.fields]
        node: Node = {"kind": STRUCTURES[type(tree)], "fields": fields}
        if isinstance(tree, mi.StructType):
            if tree.tag is not None:
                check_name(tree.tag_field, f"{name}: tag_field")
                node |= {"tag_field": tree.tag_field, "tag": tree.tag}
            if tree.array_like:
                node["array_like"] = True
        return node

    def _field(self, field: mi.Field, where: str) -> Node:
        check_name(field.encode_name, where)
        node: Node = {"name": field.encode_name, "type": self._describe(field.type, where)}
        if field.required:
            return node
        if json_default(field.default):
            return node | {"default": write_value(field.default)}
        return node | {"optional": True}

    def _count(self, where: str, number: int = 1) -> None:
        self._nodes += number
        if self._nodes > MAX_NODES:
            raise UsageError(f"{where}: want at most {MAX_NODES} types, got more", code="interface_type")


def check_name(name: object, where: str) -> None:
    """Refuse an invalid name of a call, parameter, field or member.

    Raises:
        UsageError: with the reason.
    """
    _refuse(name_problem(name), where)


def check_count(items: Sized, what: str, where: str) -> None:
    """Refuse a list that is too long for an interface.

    Raises:
        UsageError: want and got.
    """
    problem = count_problem(items, what)
    if problem:
        raise UsageError(f"{where}: {problem}", code="interface_type")


def json_default(value: object) -> bool:
    """Whether a default can be in the interface: None, bool, int, float or str."""
    return value is None or type(value) in {bool, int, float, str}


def write_value(value: Any) -> Any:
    """Convert a default or limit for canonical JSON, which has no floats and no long integers."""
    if type(value) is float or (type(value) is int and abs(value) > MAX_INTEGER):
        return {type(value).__name__: repr(value)}
    return value


def read_value(value: Any) -> Any:
    """Convert the output of :func:`write_value` back."""
    match value:
        case {"float": str(text)}:
            return float(text)
        case {"int": str(text)}:
            return int(text)
        case _:
            return value


def _bounds(tree: mi.Type) -> Node:
    values = {name: getattr(tree, name, None) for name in BOUNDS}
    return {name: write_value(value) for name, value in values.items() if value is not None}


def _refuse(problem: str | None, where: str) -> None:
    if problem:
        raise UsageError(f"{where}: {problem}", hint="rename it", code="interface_name")


def _enum(cls: Any, where: str) -> Node:
    check_count(list(cls), "members", where)
    members: Node = {}
    for member in cls:
        check_name(member.name, where)
        members[member.name] = write_value(member.value)
    return {"kind": "enum", "members": members}


MAX_INTEGER = (1 << 53) - 1
"""The largest integer that every JSON parser represents exactly. Spec: RFC 8785, appendix D."""

BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")

SCALARS: dict[type[mi.Type], str] = {
    mi.NoneType: "none",
    mi.BoolType: "bool",
    mi.IntType: "int",
    mi.FloatType: "float",
    mi.StrType: "str",
    mi.BytesType: "bytes",
    mi.DateTimeType: "datetime",
    mi.DateType: "date",
    mi.TimeType: "time",
    mi.TimeDeltaType: "timedelta",
    mi.UUIDType: "uuid",
    mi.DecimalType: "decimal",
}

SEQUENCES: dict[type[mi.Type], str] = {
    mi.ListType: "list",
    mi.VarTupleType: "vartuple",
    mi.SetType: "set",
    mi.FrozenSetType: "frozenset",
}

STRUCTURES: dict[type[mi.Type], str] = {
    mi.StructType: "struct",
    mi.DataclassType: "struct",
    mi.NamedTupleType: "namedtuple",
    mi.TypedDictType: "struct",
}

ALLOWED = (
    "use None, bool, int, float, str, bytes, dates, UUID, Decimal, list, tuple, set, dict, Literal, Enum, "
    "unions, msgspec.Struct, dataclass, NamedTuple, TypedDict, or Table as a whole argument or result"
)
