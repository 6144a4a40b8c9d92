"""Decode base64 and JSON objects from clients: several forms are accepted, but each has only one meaning.

Clients differ in base64's alphabet and padding, so both are accepted. Anything that two parsers might read
differently is refused: a repeated member in an object, and nesting that is too deep.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

import msgspec

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.services.attestation.faults import InvalidParameter

MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 20
# As many as fit into 256 KiB. Small objects take 30 times the memory of their text; a larger body has long
# text in few members.
MOST_VALUES: Final = 1 << 18
_ALPHABET: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")


class NotBase64(InvalidParameter):
    """Text that is not base64."""


def decode_base64(text: str, what: str, *, most: int) -> bytes:
    """Read base64 or base64url, padded or not.

    Args:
        text: to decode.
        what: for messages.
        most: bytes.

    Raises:
        NotBase64: another character, or an impossible length.
        InvalidParameter: more bytes.
    """
    if len(text) > most // 3 * 4 + 8:
        raise InvalidParameter(f"{what}: want at most {most} bytes, got {len(text) * 3 // 4}")
    try:
        data = b64.decode_either(text, what, most=len(text))
    except FormatError:
        raw = text.encode("ascii", "backslashreplace").rstrip(b"=")
        bad = next((byte for byte in raw if byte not in _ALPHABET), None)
        why = f"Unknown base64 character: {bad} ('{chr(bad)}')" if bad is not None else "is cut short"
        raise NotBase64(f"{what}: {why}") from None
    if len(data) > most:
        raise InvalidParameter(f"{what}: want at most {most} bytes, got {len(data)}")
    return data


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object in any layout.

    Args:
        data: UTF-8, already bounded.
        what: for messages.

    Raises:
        InvalidParameter: not JSON, not an object, a repeated member, nested more than 32 deep, more values
            than fit into 256 KiB, a number that no parser can represent, or half a surrogate pair.
    """
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES:
        raise InvalidParameter(f"{what}: want at most {MOST_VALUES} values, got more")
    try:
        jcs.check_nesting(data, what, MAX_DEPTH)
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_int=_integer,
            parse_float=_float,
        )
        if b"\\u" in data:
            # Half a surrogate pair comes only from an escape, and no token can contain it.
            _check_text(value)
    except (ValueError, RecursionError) as error:
        why = error.args[0] if isinstance(error, _Unsaid) else "is not JSON"
        raise InvalidParameter(f"{what}: {why}") from None
    except FormatError as error:
        raise InvalidParameter(error.message) from None
    if not isinstance(value, dict):
        raise InvalidParameter(f"{what}: want a JSON object, got {type(value).__name__}")
    return value


class _Unsaid(ValueError):
    """JSON that two parsers might read differently, or that no token can contain; with the reason."""


def _check_text(value: Any) -> None:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise _Unsaid("a string holds half a character") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise _Unsaid(f"member {name!a:.80} appears twice")
        members[name] = value
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS or not -1 << 63 <= int(digits) < 1 << 64:
        raise _Unsaid(f"integer {digits[:32]} is past 64 bits: want a larger one as text")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Unsaid(f"number {digits[:32]} is past what a reader holds")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
