"""Convert ``interface.json`` back to signatures: the host's side of the boundary, from the document only.

The host has none of the enclave's classes. It creates its own, with the same names and fields, so a result
looks the same as inside; an argument may be any object with those fields.

The document comes with the image, and anyone can write an image: it is parsed before any signature is
checked. Names must be valid for :mod:`kluis.enclave.names`. A reference is the class that it names, never
text for Python to resolve. No regular expression of the document runs here: the enclave enforces its own
patterns.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sized
from types import GenericAlias
from typing import Annotated, Any, Literal, NamedTuple, Union, cast

import msgspec

from kluis.enclave.boundary import depth
from kluis.enclave.boundary.codec import Limits
from kluis.enclave.boundary.interface import FORMAT, RESERVED, Parameter, Signature
from kluis.enclave.boundary.schema import Node, json_default, read_value
from kluis.enclave.boundary.table import Table
from kluis.enclave.names import (
    LARGEST_MESSAGE,
    LARGEST_TABLE,
    MAX_NODES,
    class_problem,
    count_problem,
    name_problem,
)
from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import jcs

MAX_BYTES = 4 << 20


class Interface(NamedTuple):
    """The interface of an image.

    Attributes:
        name: of the enclave.
        limits: of messages and tables.
        ecalls: in the order of their numbers.
        ocalls: in the order of their numbers.
        types: the host's classes, by name.
        document: from which this was parsed.
    """

    name: str
    limits: Limits
    ecalls: tuple[Signature, ...]
    ocalls: tuple[Signature, ...]
    types: dict[str, Any]
    document: dict[str, Any]


def parse(data: bytes, classes: Mapping[str, Any] | None = None) -> Interface:
    """Parse an interface document.

    Args:
        data: the document.
        classes: by name, in place of those that are created here; of a document with the same :func:`shape`.

    Raises:
        FormatError: not an interface document.
        UnsupportedError: a later format.
    """
    document = jcs.loads(data, "interface", max_size=MAX_BYTES)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        got = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise UnsupportedError(f"interface format: want {FORMAT}, got {got}")
    try:
        interface = msgspec.convert(document, _Document)
        types = _Types(interface.types, classes or {})
        ecalls, ocalls = types.signatures(interface.ecalls), types.signatures(interface.ocalls)
        calls = cast("list[Node]", document["ecalls"]) + cast("list[Node]", document["ocalls"])
        _hold(depth.problem(calls, interface.types))
        return Interface(
            name=interface.name,
            limits=Limits(interface.max_message_bytes, interface.max_table_bytes),
            ecalls=ecalls,
            ocalls=ocalls,
            types=types.classes,
            document=document,
        )
    except (
        msgspec.ValidationError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise FormatError(f"interface: {error}") from None


def shape(document: dict[str, Any]) -> bytes:
    """The part of a document that decides how calls are written: names and types, without descriptions."""
    calls = {
        side: [{key: value for key, value in one.items() if key != "doc"} for one in document[side]]
        for side in ("ecalls", "ocalls")
    }
    return jcs.dumps({"name": document["name"], "types": document["types"], **calls})


class _Call(msgspec.Struct):
    name: str
    parameters: list[dict[str, Any]]
    returns: dict[str, Any]
    raises: list[str]
    doc: str = ""
    timeout_seconds: Any = None
    stream: bool = False


class _Document(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    max_message_bytes: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_MESSAGE)]
    max_table_bytes: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_TABLE)]
    ecalls: list[_Call]
    ocalls: list[_Call]
    types: dict[str, Node]


class _Types:
    """Converts nodes to hints, and creates one class for each named type.

    Classes may reference each other in cycles. So each is created with untyped fields first, and gets the
    types of its fields when every class exists. msgspec reads them later, when a decoder is created.
    """

    def __init__(self, nodes: dict[str, Node], classes: Mapping[str, Any]) -> None:
        self._nodes = 0
        _hold(count_problem(nodes, "classes"))
        self.classes: dict[str, Any] = {}
        for name, node in nodes.items():
            _hold(class_problem(name))
            self.classes[name] = classes.get(name) or self._class(name, node)
        for name, node in nodes.items():
            if node["kind"] != "enum" and name not in classes:
                self.classes[name].__annotations__ = {one["name"]: self._field(one) for one in node["fields"]}

    def signatures(self, calls: list[_Call]) -> tuple[Signature, ...]:
        _hold(count_problem(calls, "calls"))
        _unique([one.name for one in calls])
        return tuple(self._signature(one) for one in calls)

    def _signature(self, call: _Call) -> Signature:
        _name(call.name)
        if call.name.startswith("_") or call.name in RESERVED:
            raise FormatError(f"interface: {call.name}: this name is not free")
        _hold(count_problem(call.parameters, "parameters"))
        _unique([one["name"] for one in call.parameters])
        seconds = _scalar(call.timeout_seconds)
        if not (seconds is None or (type(seconds) in {int, float} and seconds > 0)):
            raise FormatError(f"interface: {call.name}: want a timeout above 0 s, got {str(seconds)[:40]}")
        return Signature(
            name=call.name,
            parameters=tuple(
                Parameter(_name(one["name"]), self._hint(one["type"]), _default(one))
                for one in call.parameters
            ),
            returns=self._hint(call.returns),
            doc=call.doc,
            timeout_seconds=seconds,
            stream=call.stream,
        )

    def _hint(self, node: Node) -> Any:
        self._count(1)
        if "ref" in node:
            return self.classes[node["ref"]]
        bounds = {name: _read_bound(node[name]) for name in BOUNDS if name in node}
        hint = self._bare(node)
        return Annotated[hint, msgspec.Meta(**bounds)] if bounds else hint

    def _bare(self, node: Node) -> Any:
        kind = node["kind"]
        if kind in SCALARS:
            return SCALARS[kind]
        if kind in SEQUENCES:
            return _of(SEQUENCES[kind], self._hint(node["items"]))
        match kind:
            case "vartuple":
                return _of(tuple, self._hint(node["items"]), ...)
            case "tuple":
                return _of(tuple, *(self._hint(one) for one in self._few(node["items"], "items")))
            case "dict":
                return _of(dict, self._hint(node["keys"]), self._hint(node["values"]))
            case "union":
                return Union[tuple(self._hint(one) for one in self._few(node["of"], "alternatives"))]  # noqa: UP007 - made when it runs
            case "literal":
                return Literal[tuple(_scalar(one) for one in self._few(node["values"], "values"))]
            case _:
                raise UnsupportedError(f"interface type: {kind} is not known here")

    def _class(self, name: str, node: Node) -> Any:
        match node["kind"]:
            case "enum":
                members = self._few(node["members"], "members").items()
                return enum.Enum(name, {_name(member): _scalar(value) for member, value in members})
            case "namedtuple":
                # The class name without enclosing ones: a named tuple's name has no dot.
                return NamedTuple(name.rpartition(".")[2], [(field, Any) for field in self._names(node)])
            case "struct":
                self._names(node)
                return msgspec.defstruct(
                    name, [_untyped_field(one) for one in node["fields"]], kw_only=True, **_options(node)
                )
            case kind:
                raise UnsupportedError(f"interface type: {kind} is not known here")

    def _few(self, items: Any, what: str) -> Any:
        if not isinstance(items, Sized):
            raise FormatError(f"interface: want {what}, got {type(items).__name__}")
        _hold(count_problem(items, what))
        self._count(len(items))
        return items

    def _count(self, number: int) -> None:
        self._nodes += number
        if self._nodes > MAX_NODES:
            raise FormatError(f"interface: want at most {MAX_NODES} types, fields and values, got more")

    def _names(self, node: Node) -> list[str]:
        """The names of a class's fields."""
        return _unique([_name(one["name"]) for one in self._few(node["fields"], "fields")])

    def _field(self, node: Node) -> Any:
        hint = self._hint(node["type"])
        return Union[hint, msgspec.UnsetType] if node.get("optional") else hint  # noqa: UP007 - likewise


def _untyped_field(node: Node) -> Any:
    """A field at the creation of its class: name and default, but no type yet."""
    default = _default(node)
    if default is msgspec.UNSET and not node.get("optional"):
        return node["name"], Any
    return node["name"], Any, default


def _options(node: Node) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "tag" in node:
        options["tag"] = _scalar(node["tag"])
    if "tag_field" in node:
        options["tag_field"] = _name(node["tag_field"])
    if "array_like" in node:
        options["array_like"] = node["array_like"] is True
    return options


def _unique(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise FormatError("interface: a name is given twice")
    return names


def _name(name: Any) -> str:
    _hold(name_problem(name))
    return str(name)


def _hold(problem: str | None) -> None:
    if problem:
        raise FormatError(f"interface: {problem}")


def _scalar(value: Any) -> Any:
    read = read_value(value)
    if not json_default(read):
        raise FormatError(f"interface: want None, bool, int, float or str, got {type(read).__name__}")
    return read


def _read_bound(value: Any) -> Any:
    """A limit of a type. msgspec supports those of 64 bits, and fails silently for some longer ones."""
    read = _scalar(value)
    if type(read) is int and abs(read) >= 1 << 63:
        raise FormatError("interface: want bounds of at most 64 bits, got a longer one")
    return read


def _of(generic: Any, *arguments: Any) -> Any:
    return GenericAlias(generic, arguments)


def _default(node: Node) -> Any:
    return _scalar(node["default"]) if "default" in node else msgspec.UNSET


BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "tz")
"""Everything that the host enforces; a ``pattern`` could run indefinitely, and is enforced inside."""

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
