"""Encode and decode one function's calls and results, typed and bounded.

Both sides use this: inside it is built from the application's hints, outside from ``interface.json``. Input
is decoded directly into the hinted types. Values of another type, with an item more or less, or above a limit
are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec

from kluis.enclave.boundary import frames, memfile
from kluis.enclave.boundary.interface import Signature
from kluis.enclave.boundary.schema import is_table
from kluis.enclave.boundary.table import Table
from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.unreadable import UNREADABLE

astuple = msgspec.structs.astuple

CallId = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
FileIndex = Annotated[int, msgspec.Meta(ge=0, lt=frames.MAX_FILES)]


class Limits(msgspec.Struct, frozen=True):
    """The limits of an enclave: bytes of an encoded message, and of a table."""

    message_bytes: int
    table_bytes: int


class Codec:
    """Encodes and decodes the frames of one function.

    Attributes:
        frame: the type of its call frames, ``(call, arguments...)``; None if they contain tables.
        read_result: decodes a result frame, ``(call, p0)``; None if it is a table.
        returns_none: whether it has no result.

    Args:
        signature: with resolved hints.
        kind: the first item of its call frames.
        result_kind: the first item of its result frames.
        limits: of the enclave.

    Raises:
        UsageError: msgspec cannot distinguish the types of a union on the wire.
    """

    def __init__(self, signature: Signature, kind: int, result_kind: int, limits: Limits) -> None:
        self.name = signature.name
        self.parameters = tuple(one.name for one in signature.parameters)
        self.count = len(self.parameters)
        self.timeout_seconds = signature.timeout_seconds
        self._kind = kind
        self._result_kind = result_kind
        self.returns_none = signature.returns in {None, type(None)}
        self._limits = limits
        self.read_result: Callable[[frames.Frame], Any] | None = None
        self.frame: type[msgspec.Struct] | None = None
        self._tables = tuple(i for i, one in enumerate(signature.parameters) if is_table(one.hint))
        self._result_table = is_table(signature.returns)
        hints = [one.hint for one in signature.parameters]
        self._frame = _frame(self.name, kind, hints)
        self._call = _decoder(self.name, self._frame)
        self._call_check = _decoder(self.name, _frame(self.name, kind, map(_by_reference, hints)))
        returns = signature.returns
        self._result = _decoder(self.name, _frame(self.name, result_kind, [returns]))
        if not self._result_table:
            self.read_result = self._result.decode
        if not self._tables:
            self.frame = self._frame
        self._result_check = _decoder(self.name, _frame(self.name, result_kind, [_by_reference(returns)]))

    def encode_plain(self, call: int, arguments: tuple[Any, ...]) -> frames.Frame:
        """Encode a call without tables and check its types; raises the errors of :meth:`check_call`."""
        if not arguments:
            return frames.encode_short((self._kind, call))
        frame = self._encode((self._kind, call, *arguments), self.name)
        self.check_call(frame)
        return frame

    def encode_call(self, call: int, arguments: tuple[Any, ...]) -> tuple[frames.Frame, tuple[int, ...]]:
        """Encode a call.

        Returns:
            The frame, and descriptors of its tables, which the caller must close.

        Raises:
            UsageError: an argument is of another type, or too large.
        """
        files: tuple[int, ...] = ()
        if self._tables:
            arguments, files = self._pack(arguments)
        try:
            return self._encode((self._kind, call, *arguments), self.name), files
        except BaseException:
            close(files)
            raise

    def check_call(self, frame: frames.Frame) -> None:
        """Check an encoded call against the types, before it is sent.

        Raises:
            UsageError: names the argument, want and got.
        """
        try:
            self._call_check.decode(frame)
        except UNREADABLE as error:
            raise UsageError(self._explain_call(error), code="argument") from None

    def decode_call(self, parcel: frames.Parcel) -> tuple[Any, ...]:
        """Decode a call's arguments. The parcel's descriptors are always closed.

        Raises:
            FormatError: names the argument, want and got.
        """
        try:
            arguments: tuple[Any, ...] = astuple(self._call.decode(parcel.frame))[1:]
            if self._tables or parcel.files:
                return self._unpack(arguments, parcel.files)
            return arguments
        except UNREADABLE as error:
            raise FormatError(self._explain_call(error), code="argument") from None
        finally:
            parcel.close()

    def encode_result(self, call: int, value: Any) -> tuple[frames.Frame, tuple[int, ...]]:
        """Encode a result, and check its type: undeclared values do not leave.

        Returns and raises the same as :meth:`encode_call`.
        """
        what = f"{self.name} result"
        files: tuple[int, ...] = ()
        if self._result_table:
            files = (self._table_file(value, what),)
            value = 0
        try:
            frame = self._encode((self._result_kind, call, value), what)
            self._result_check.decode(frame)
        except UNREADABLE as error:
            close(files)
            raise UsageError(explain(error, what, RESULT_ITEMS), code="result") from None
        except BaseException:
            close(files)
            raise
        return frame, files

    def decode_result(self, parcel: frames.Parcel) -> Any:
        """Decode a result. The parcel's descriptors are always closed.

        Raises:
            FormatError: want and got.
        """
        try:
            return self._result_value(parcel)
        except UNREADABLE as error:
            problem = explain(error, f"{self.name} result", RESULT_ITEMS)
        finally:
            parcel.close()
        raise FormatError(problem, code="result")

    def _result_value(self, parcel: frames.Parcel) -> Any:
        what = f"{self.name} result"
        value = self._result.decode(parcel.frame).p0
        if len(parcel.files) != self._result_table:
            raise FormatError(f"{what}: want {int(self._result_table)} files, got {len(parcel.files)}")
        if self._result_table:
            return memfile.map_table(parcel.files[0], self._limits.table_bytes, what)
        return value

    def _encode(self, items: tuple[Any, ...], what: str) -> bytearray:
        try:
            frame = frames.encode(items)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UsageError(f"{what}: {error}", code="argument") from None
        if len(frame) > self._limits.message_bytes:
            raise UsageError(
                f"{what}: want at most {self._limits.message_bytes} bytes, got {len(frame)}",
                hint="raise max_message_bytes where the Enclave is declared, or pass a Table",
                code="too_large",
            )
        return frame

    def _pack(self, arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        laid = list(arguments)
        files: list[int] = []
        try:
            for number, index in enumerate(self._tables):
                files.append(self._table_file(laid[index], f"{self.name}.{self.parameters[index]}"))
                laid[index] = number
        except BaseException:
            close(files)
            raise
        return tuple(laid), tuple(files)

    def _table_file(self, value: Any, what: str) -> int:
        table = Table(value)
        if table.num_bytes > self._limits.table_bytes:
            raise UsageError(
                f"{what}: want at most {self._limits.table_bytes} bytes, got {table.num_bytes}",
                code="too_large",
            )
        return memfile.of_table(table)

    def _unpack(self, arguments: tuple[Any, ...], files: Sequence[int]) -> tuple[Any, ...]:
        if len(files) != len(self._tables):
            raise FormatError(
                f"{self.name}: want {len(self._tables)} tables, got {len(files)}", code="argument"
            )
        laid = list(arguments)
        for number, index in enumerate(self._tables):
            what = f"{self.name}.{self.parameters[index]}"
            if laid[index] != number:
                raise FormatError(f"{what}: want file {number}, got {laid[index]}", code="argument")
            laid[index] = memfile.map_table(files[number], self._limits.table_bytes, what)
        return tuple(laid)

    def _explain_call(self, error: Exception) -> str:
        return explain(error, self.name, ("kind", "call", *self.parameters))


def explain(error: Exception, what: str, items: Sequence[str]) -> str:
    """Rewrite msgspec's error as ``what.item: want X, got Y``.

    Args:
        error: from msgspec.
        what: name of the function.
        items: the names of the frame's items, in order.
    """
    if isinstance(error, RecursionError):
        return f"{what}: is nested too deeply"
    text, _, path = str(error).replace("`", "").partition(" - at ")
    where = what
    if (
        not path and (count := _COUNT.match(text)) and len(items) > 2
    ):  # msgspec counts the kind in one of them
        return f"{what}: want {len(items) - 2} values, got {'fewer' if count[1] == 'least' else 'more'}"
    if match := _PATH.match(path):
        index = int(match[1])
        name = f".{items[index]}" if index < len(items) else f"[{index}]"
        where += name.rstrip(".") + match[2]
    if text.startswith("Expected "):
        return f"{where}: want {text.removeprefix('Expected ')}"
    return f"{where}: {text[:1].lower()}{text[1:]}"


def close(files: Sequence[int]) -> None:
    """Close descriptors."""
    for descriptor in files:
        os.close(descriptor)


def _by_reference(hint: Any) -> Any:
    """A replacement for a hint where values are only inspected: long bytes are not copied."""
    return memoryview if hint is bytes else hint


def _frame(name: str, kind: int, hints: Iterable[Any]) -> type[msgspec.Struct]:
    fields = [(f"p{i}", FileIndex if is_table(hint) else hint) for i, hint in enumerate(hints)]
    return msgspec.defstruct(
        name,
        [("call", CallId), *fields],
        tag=kind,
        tag_field="kind",
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )


def _decoder(name: str, frame: type[msgspec.Struct]) -> msgspec.msgpack.Decoder[Any]:
    try:
        return msgspec.msgpack.Decoder(frame)
    except (TypeError, ValueError, RuntimeError) as error:  # too deep, and not implemented, are the last
        raise UsageError(f"{name}: {error}", code="interface_type") from None


RESULT_ITEMS = ("kind", "call", "")
_PATH = re.compile(r"\$\[(\d+)\](.*)")
_COUNT = re.compile(r"Expected array of at (least|most) length")
