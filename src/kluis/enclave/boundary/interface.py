"""The interface document: every function that crosses the boundary, with its types and limits.

``interface.json`` is generated from the type hints, and is part of the image and its measurement. The runtime
generates it again from the loaded code and refuses to start on a difference, so the reviewed interface is the
one that runs. The host builds its side only from the document. docs/guides/develop.md has the types.
"""

from __future__ import annotations

import collections.abc
import typing
from types import FunctionType
from typing import Any

import msgspec

from kluis.enclave.boundary import depth
from kluis.enclave.boundary.schema import Node, Schemas, check_count, check_name, json_default, write_value
from kluis.errors import KluisError, UsageError

FORMAT = "kluis-interface/1"

RESERVED = frozenset({
    "attest", "call", "close", "debug", "evidence", "identity", "image_id", "interface", "kill",
    "launch_configuration", "level", "ocall", "pid", "submit", "within",
})  # fmt: skip
"""Names used by the host's proxy itself."""


class Parameter(msgspec.Struct, frozen=True):
    """One parameter: its name, resolved hint, and default (``msgspec.UNSET`` if it has none)."""

    name: str
    hint: Any
    default: Any = msgspec.UNSET


class Signature(msgspec.Struct, frozen=True):
    """The interface of one function.

    Attributes:
        name: the function's own name.
        parameters: in order.
        returns: the resolved hint of the result.
        raises: exception classes whose messages may leave the enclave.
        doc: the first line of the docstring.
        timeout_seconds: of an ocall; None means no timeout.
        stream: whether it returns an iterator, of items of the type ``returns``.
    """

    name: str
    parameters: tuple[Parameter, ...]
    returns: Any
    raises: tuple[type[Exception], ...] = ()
    doc: str = ""
    timeout_seconds: float | None = None
    stream: bool = False


def parse_signature(
    function: FunctionType,
    *,
    raises: tuple[type[Exception], ...] = (),
    timeout_seconds: float | None = None,
    plain: bool = True,
) -> Signature:
    """Read a function's signature.

    Args:
        function: with type hints.
        raises: exceptions whose messages may leave.
        timeout_seconds: of an ocall.
        plain: whether coroutines and iterators are refused.

    Raises:
        UsageError: a hint is missing, or something about the function cannot cross the boundary.
    """
    name = function.__name__
    if name.startswith("_") or name in RESERVED:
        raise UsageError(f"{name}: this name is not free", hint="rename the function", code="interface_name")
    code = function.__code__
    if plain and code.co_flags & (GENERATOR | COROUTINE | ASYNC_GENERATOR):
        raise UsageError(
            f"{name}: want a plain function, got a coroutine or generator", code="interface_type"
        )
    if code.co_flags & (VARARGS | VARKEYWORDS) or code.co_posonlyargcount:
        raise UsageError(
            f"{name}: want named parameters, got positional-only ones or a variable number",
            code="interface_type",
        )
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise UsageError(f"{name}: {error}", hint="define the type above it", code="interface_type") from None
    defaults = _defaults(function)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    parameters = tuple(_parameter(name, one, hints, defaults) for one in names)
    if "return" not in hints:
        raise UsageError(
            f"{name}: the result has no type hint", hint="write -> None if it has none", code="interface_type"
        )
    doc = (function.__doc__ or "").strip().partition("\n")[0].rstrip()
    item = _item(hints["return"])
    if item is None and code.co_flags & (GENERATOR | ASYNC_GENERATOR):
        raise UsageError(
            f"{name}: want a result hint such as Iterator[str], got another: it is a generator",
            hint="from collections.abc import Iterator, or AsyncIterator for an async one",
            code="interface_type",
        )
    returns, stream = (hints["return"], False) if item is None or plain else (item, True)
    return Signature(name, parameters, returns, raises, doc, timeout_seconds, stream)


def _item(hint: Any) -> Any:
    """The type of the items if a result is an iterator; None for other hints."""
    if typing.get_origin(hint) not in ITERATORS:
        return None
    return typing.get_args(hint)[0]


def describe(
    *,
    name: str,
    product_id: int,
    svn: int,
    max_message_bytes: int,
    max_table_bytes: int,
    ecalls: typing.Iterable[Signature],
    ocalls: typing.Iterable[Signature],
) -> dict[str, Any]:
    """Generate the interface document of an enclave.

    Raises:
        UsageError: a type cannot cross the boundary.
    """
    schemas = Schemas()
    calls = {}
    for what, signatures in (("ecalls", list(ecalls)), ("ocalls", list(ocalls))):
        check_count(signatures, "calls", what)
        calls[what] = [_call(one, schemas) for one in signatures]
        _check_depth(what, calls[what], schemas)
    return {
        "format": FORMAT,
        "name": name,
        "product_id": product_id,
        "svn": svn,
        "max_message_bytes": max_message_bytes,
        "max_table_bytes": max_table_bytes,
        **calls,
        "types": schemas.types,
    }


def check(signature: Signature) -> None:
    """Refuse a signature with a type that cannot cross the boundary.

    Raises:
        UsageError: names the type and its place.
    """
    schemas = Schemas()
    _check_depth(signature.name, [_call(signature, schemas)], schemas)


def _check_depth(where: str, calls: list[Node], schemas: Schemas) -> None:
    if problem := depth.problem(calls, schemas.types):
        raise UsageError(f"{where}: {problem}", code="interface_type")


def encode(interface: dict[str, Any]) -> bytes:
    """Write the document in the image's form: canonical JSON (RFC 8785).

    msgspec sorts keys as UTF-8 and RFC 8785 as UTF-16; these agree up to U+FFFF, which no name exceeds.
    """
    return msgspec.json.encode(interface, order="sorted")


def _defaults(function: FunctionType) -> dict[str, Any]:
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    return dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True)) | (
        function.__kwdefaults__ or {}
    )


def _parameter(function: str, name: str, hints: dict[str, Any], defaults: dict[str, Any]) -> Parameter:
    where = f"{function}.{name}"
    if name not in hints:
        raise UsageError(
            f"{where}: has no type hint", hint=f"write {name}: int, or what it is", code="interface_type"
        )
    if name not in defaults:
        return Parameter(name, hints[name])
    default = defaults[name]
    if not json_default(default):
        raise UsageError(
            f"{where}: default: want None, bool, int, float or str, got {type(default).__name__}",
            code="interface_type",
        )
    return Parameter(name, hints[name], default)


def _call(signature: Signature, schemas: Schemas) -> Node:
    parameters = []
    check_name(signature.name, signature.name)
    check_count(signature.parameters, "parameters", signature.name)
    for one in signature.parameters:
        check_name(one.name, f"{signature.name}.{one.name}")
        node: Node = {"name": one.name, "type": schemas.node(one.hint, f"{signature.name}.{one.name}")}
        parameters.append(
            node if one.default is msgspec.UNSET else node | {"default": write_value(one.default)}
        )
    node = {
        "name": signature.name,
        "parameters": parameters,
        "returns": schemas.node(signature.returns, f"{signature.name} result"),
        "raises": sorted(_raised_names(signature)),
    }
    if signature.stream:
        node["stream"] = True
    if signature.doc:
        node["doc"] = signature.doc
    if signature.timeout_seconds is not None:
        node["timeout_seconds"] = write_value(float(signature.timeout_seconds))
    return node


def _raised_names(signature: Signature) -> set[str]:
    for one in signature.raises:
        if not issubclass(one, Exception):
            raise UsageError(f"{signature.name}: raises: want exception classes, got {one!r}")
    return {one.__name__ for one in signature.raises if not issubclass(one, KluisError)}


ITERATORS = frozenset({
    collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator,
    collections.abc.AsyncIterator, collections.abc.AsyncIterable, collections.abc.AsyncGenerator,
})  # fmt: skip
# Spec: Python reference, "Code objects", co_flags.
VARARGS, VARKEYWORDS, GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x04, 0x08, 0x20, 0x80, 0x200
