"""JSON, strictly: a reader that refuses what parsers disagree on, and the canonical writer.

Spec: RFC 8259, RFC 8785 (JSON Canonicalization Scheme). Numbers are integers that every parser represents
exactly, -(2^53)+1 to 2^53-1; there are no floats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn, TypeAlias, Union, cast

from kluis.errors import FormatError

Json: TypeAlias = Union[bool, int, str, "list[Json]", "dict[str, Json]", None]
Writable: TypeAlias = Union[bool, int, str, "Sequence[Writable]", "Mapping[str, Writable]", None]

MAX_INTEGER: Final = (1 << 53) - 1
MAX_SIZE: Final = 1 << 20
MAX_DEPTH: Final = 32
_NESTING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{\]}]', re.DOTALL)
_MOST_QUOTES: Final = 1 << 20  # each takes some 50 bytes while strings are cut out
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))

_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dumps(value: Writable) -> bytes:
    """Write ``value`` in the one canonical form.

    Raises:
        FormatError: a value that JSON, or this subset of it, cannot represent.
    """
    out: list[str] = []
    _write(value, out, 0)
    try:
        return "".join(out).encode()
    except UnicodeEncodeError:
        raise FormatError("JSON: a string holds half a character", code="bad_encoding") from None


def loads(
    data: bytes,
    what: str,
    *,
    max_size: int = MAX_SIZE,
    max_depth: int = MAX_DEPTH,
    real: Callable[[str], Json] | None = None,
    large: Callable[[str], Json] | None = None,
) -> Json:
    """Read one JSON value, in any spacing and key order.

    Args:
        data: UTF-8, without a byte order mark.
        what: what they claim to be, for messages.
        max_size: bytes.
        max_depth: of nested lists and objects.
        real: parses the text of a number that is not an integer; None: refuse such numbers.
        large: parses the text of an integer past 2^53-1; None: refuse it.

    Raises:
        FormatError: not JSON, a repeated key in one object, a float where none is allowed, an integer above
            2^53-1, half a surrogate pair, or too large or deep.
    """
    if len(data) > max_size:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {max_size}", code="too_large")

    check_nesting(data, what, max_depth)

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise FormatError(f"{what}: key {key!a:.40} appears twice", code="duplicate_key")
                seen.add(key)
        return members

    def refuse(number: str) -> NoReturn:
        raise FormatError(f"{what}: {number[:32]} is not an integer", code="bad_type")

    def integer(digits: str) -> Json:
        if len(digits) > 17 or abs(value := int(digits)) > MAX_INTEGER:
            if large is not None:
                return large(digits)
            raise FormatError(f"{what}: integer {digits[:32]} is past 2^53-1", code="bad_encoding")
        return value

    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=unique,
            parse_float=real or refuse,
            parse_constant=refuse,
            parse_int=integer,
        )
    except UnicodeDecodeError as error:
        raise FormatError(f"{what} at {error.start:#x}: is not UTF-8", code="bad_encoding") from None
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{what} at {error.pos:#x}: is not JSON: {error.msg}", code="bad_encoding"
        ) from None
    except RecursionError:
        raise FormatError(f"{what}: nested more than {max_depth} deep", code="too_deep") from None
    if b"\\u" in data:
        # Half a surrogate pair comes only from an escape: UTF-8 cannot encode one.
        _check(value, what, max_depth)
    return cast("Json", value)


def _outside_strings(data: bytes) -> bytes:
    """JSON without backslashes, with its strings removed."""
    return b"".join(data.split(b'"')[::2])


def check_nesting(data: bytes, what: str, max_depth: int) -> None:
    """Refuse deep nesting before the parser recurses: a thread's small stack overflows before Python 3.13's
    limit.
    """
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    if b"\\" not in data and data.count(b'"') <= _MOST_QUOTES:
        brackets = _outside_strings(data).translate(None, _NO_BRACKETS)
        # Each round removes at most two levels.
        for _ in range(max_depth // 2):
            before = len(brackets)
            brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
            if not brackets:
                return
            if len(brackets) == before:
                break
    depth = 0
    # One at a time: a list of all takes eight times the memory of data that consists of brackets.
    for found in _NESTING.finditer(data):
        token = found[0]
        if token in b"[{":
            depth += 1
            if depth > max_depth:
                raise FormatError(f"{what}: nested more than {max_depth} deep", code="too_deep")
        elif token in b"]}":
            depth -= 1


def loads_canonical(data: bytes, what: str, *, max_size: int = MAX_SIZE) -> Json:
    """Read one JSON value in canonical form only.

    Raises:
        FormatError: as for ``loads``, or the bytes are not canonical.
    """
    value = loads(data, what, max_size=max_size)
    if dumps(value) != data:
        raise FormatError(f"{what}: is not in canonical form (RFC 8785)", code="bad_encoding")
    return value


def _write(value: object, out: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormatError(f"JSON: nested more than {MAX_DEPTH} deep", code="too_deep")
    # By comparisons: a pattern of a class takes four times as long.
    if isinstance(value, str):
        out.append(_string(value))
    elif isinstance(value, dict | Mapping):
        between = "{"
        for key in _in_order(value):
            out.append(f"{between}{_string(key)}:")
            _write(value[key], out, depth + 1)
            between = ","
        out.append("}" if value else "{}")
    elif value is None:
        out.append("null")
    elif isinstance(value, bool):
        out.append("true" if value else "false")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise FormatError(f"JSON: integer {value} is past 2^53-1", code="bad_encoding")
        out.append(str(int(value)))
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        between = "["
        for item in value:
            out.append(between)
            _write(item, out, depth + 1)
            between = ","
        out.append("]" if value else "[]")
    else:
        raise FormatError(f"JSON: cannot hold a {type(value).__name__}", code="bad_type")


def _string(text: str) -> str:
    if _ESCAPED.search(text) is None:
        return f'"{text}"'
    return '"' + _ESCAPED.sub(lambda m: _SHORT.get(m[0]) or f"\\u{ord(m[0]):04x}", text) + '"'


def _in_order(value: Mapping[str, object]) -> list[str]:
    """Its keys, in the order of their UTF-16 code units: for ASCII, the order of the text."""
    try:
        if "".join(value).isascii():
            return sorted(value)
    except TypeError:  # a key is not text
        pass
    return sorted(value, key=_utf16)


def _utf16(key: object) -> bytes:
    if not isinstance(key, str):
        raise FormatError(f"JSON: key must be a string, got {type(key).__name__}", code="bad_type")
    return key.encode("utf-16-be", "surrogatepass")


def _check(value: Json, what: str, max_depth: int) -> None:
    level: list[Json] = [value]
    for _ in range(max_depth + 1):
        deeper: list[Json] = []
        for item in level:
            if isinstance(item, str):
                _whole(item, what)
            elif isinstance(item, list):
                deeper.extend(item)
            elif isinstance(item, dict):
                for key in item:
                    _whole(key, what)
                deeper.extend(item.values())
        if not deeper:
            return
        level = deeper
    raise FormatError(f"{what}: nested more than {max_depth} deep", code="too_deep")


def _whole(text: str, what: str) -> None:
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise FormatError(f"{what}: a string holds half a character", code="bad_encoding")
