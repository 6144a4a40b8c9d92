"""``interface.json`` back to signatures: the host's side of the boundary, from the document alone.

The host has none of the enclave's classes. It makes its own, of the same names and fields, so a
result reads as it does inside; an argument may be any object with those fields.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import types
import uuid
from collections.abc import Callable
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, Union

import msgspec

from kluis.enclave.boundary import Limits
from kluis.enclave.interface import FORMAT, Parameter, Signature
from kluis.enclave.schema import Node, read_value
from kluis.enclave.table import Table
from kluis.errors import FormatError, UnsupportedError
from kluis.formats import jcs

__all__ = ["Interface", "parse"]

MAX_BYTES = 4 << 20


class Interface(NamedTuple):
    """What crosses the boundary of an image.

    Attributes:
        name: the enclave's.
        limits: bounds of messages and tables.
        ecalls: in the order of their numbers.
        ocalls: likewise.
        types: the host's classes, by name.
        document: the document that all this was read from.
    """

    name: str
    limits: Limits
    ecalls: tuple[Signature, ...]
    ocalls: tuple[Signature, ...]
    types: dict[str, Any]
    document: dict[str, Any]


def parse(data: bytes) -> Interface:
    """Read an interface document.

    Raises:
        FormatError: it is none.
        UnsupportedError: of a later format.
    """
    document = jcs.loads(data, "interface", max_size=MAX_BYTES)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        got = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise UnsupportedError(f"interface format: want {FORMAT}, got {got}")
    try:
        found = msgspec.convert(document, _Document)
        made = _Types(found.types)
        return Interface(
            name=found.name,
            limits=Limits(found.max_message_bytes, found.max_table_bytes),
            ecalls=tuple(made.signature(one) for one in found.ecalls),
            ocalls=tuple(made.signature(one) for one in found.ocalls),
            types=made.classes,
            document=document,
        )
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"interface: {error}") from None


class _Call(msgspec.Struct):
    name: str
    parameters: list[dict[str, Any]]
    returns: dict[str, Any]
    raises: list[str]
    doc: str = ""
    timeout_seconds: Any = None


class _Document(msgspec.Struct):
    name: str
    max_message_bytes: int
    max_table_bytes: int
    ecalls: list[_Call]
    ocalls: list[_Call]
    types: dict[str, Node]


class _Types:
    """Makes hints of nodes, and one class for each named type; classes name each other by reference."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.classes = {name: self._class(name, node) for name, node in nodes.items()}
        for made in self.classes.values():
            for name, other in self.classes.items():
                if not issubclass(made, enum.Enum):
                    setattr(made, f"{REFERENCE}{name}", other)

    def signature(self, call: _Call) -> Signature:
        return Signature(
            name=call.name,
            parameters=tuple(
                Parameter(one["name"], self._hint(one["type"], self._named), _default(one))
                for one in call.parameters
            ),
            returns=self._hint(call.returns, self._named),
            doc=call.doc,
            timeout_seconds=read_value(call.timeout_seconds),
        )

    def _named(self, name: str) -> Any:
        return self.classes[name]

    def _hint(self, node: Node, named: Callable[[str], Any]) -> Any:
        if "ref" in node:
            return named(node["ref"])
        bounds = {name: read_value(node[name]) for name in BOUNDS if name in node}
        hint = self._bare(node, named)
        return Annotated[hint, msgspec.Meta(**bounds)] if bounds else hint

    def _bare(self, node: Node, named: Callable[[str], Any]) -> Any:
        kind = node["kind"]
        if kind in SCALARS:
            return SCALARS[kind]
        if kind in SEQUENCES:
            return _of(SEQUENCES[kind], self._hint(node["items"], named))
        match kind:
            case "vartuple":
                return _of(tuple, self._hint(node["items"], named), ...)
            case "tuple":
                return _of(tuple, *(self._hint(one, named) for one in node["items"]))
            case "dict":
                return _of(dict, self._hint(node["keys"], named), self._hint(node["values"], named))
            case "union":
                return Union[tuple(self._hint(one, named) for one in node["of"])]  # noqa: UP007 - made when it runs
            case "literal":
                return Literal[tuple(read_value(one) for one in node["values"])]
            case _:
                raise UnsupportedError(f"interface type: {kind} is not known here")

    def _class(self, name: str, node: Node) -> Any:
        match node["kind"]:
            case "enum":
                members = {member: read_value(value) for member, value in node["members"].items()}
                return enum.Enum(name, members)
            case "namedtuple":
                fields = [(one["name"], self._hint(one["type"], _reference)) for one in node["fields"]]
                return NamedTuple(name, fields)
            case "struct":
                options = {key: node[key] for key in ("tag", "tag_field", "array_like") if key in node}
                return msgspec.defstruct(
                    name, [self._field(one) for one in node["fields"]], kw_only=True, **options
                )
            case kind:
                raise UnsupportedError(f"interface type: {kind} is not known here")

    def _field(self, node: Node) -> Any:
        hint = self._hint(node["type"], _reference)
        if node.get("optional"):
            return node["name"], Union[hint, msgspec.UnsetType], msgspec.UNSET  # noqa: UP007 - likewise
        default = _default(node)
        return (node["name"], hint) if default is msgspec.UNSET else (node["name"], hint, default)


def _reference(name: str) -> Any:
    return ForwardRef(f"{REFERENCE}{name}")


def _of(generic: Any, *arguments: Any) -> Any:
    return types.GenericAlias(generic, arguments)


def _default(node: Node) -> Any:
    return read_value(node["default"]) if "default" in node else msgspec.UNSET


REFERENCE = "_kluis_type_"

BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")

SCALARS: dict[str, Any] = {
    "none": None,
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "datetime": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
    "table": Table,
}

SEQUENCES: dict[str, Any] = {"list": list, "set": set, "frozenset": frozenset}
