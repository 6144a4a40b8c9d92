"""Decode input that arrives raw, or as hex, base64, base64url, PEM, or any of these in JSON quotes.

The encoding is chosen from the characters only, in one fixed order, so the same bytes are always read the
same way. Hex comes before base64, because hex text of whole quads is also base64. Lines may end anywhere.
Nothing is decoded twice.

Hex may be in groups, as openssl, xxd, od and Wireshark print it: bytes, or groups of one size, separated by a
colon or one space. Text that mixes separators, or group sizes, is not hex.

Spec: RFC 4648; RFC 7468, "Strict Syntax".
"""

from __future__ import annotations

import binascii
import enum
import re
from typing import Final, NamedTuple

from kluis.errors import FormatError

MAX_SIZE: Final = 64 << 20

_BLANK: Final = b" \t\r\n"
_LINE_ENDS: Final = b"\r\n"
_MARK: Final = b"\xef\xbb\xbf"  # which editors of Windows write before UTF-8
_HEX: Final = b"0123456789abcdefABCDEF"
_FIRST: Final = re.compile(rb"[ \t]*+([0-9A-Fa-f]++)")
_MOST_DIGITS: Final = 64  # of a group
_PLAIN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TEXT: Final = bytes(range(32, 127)) + b"\t\r\n"
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
# A reader of certificate chains takes them as text.
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END \1-----\Z")
_BEGIN: Final = b"-----BEGIN "


class Armor(enum.StrEnum):
    """An encoding around the bytes."""

    JSON = "JSON text"
    PEM = "PEM"
    HEX = "hex"
    BASE64 = "base64"
    BASE64URL = "base64url"


class Opened(NamedTuple):
    """Decoded bytes, and the encodings around them, outermost first; none if they came raw."""

    data: bytes
    armor: tuple[Armor, ...]


def open_armor(data: bytes, what: str = "input") -> Opened:
    """Remove the encodings around bytes.

    Args:
        data: at most 64 MiB.
        what: what they claim to be, for messages.

    Returns:
        The decoded bytes. JSON documents, text of an unknown kind, and PEM of several parts are returned
        unchanged, without surrounding white space.

    Raises:
        FormatError: too large, or PEM, hex or base64 that is broken.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    text = data.removeprefix(_MARK)
    if text.translate(None, _TEXT):
        return Opened(data, ())
    text = text.strip(_BLANK)
    if len(text) >= 2 and text[:1] == text[-1:] == b'"':
        inner, armor = _text(_unescape_quoted(text[1:-1], what), what)
        return Opened(inner, (Armor.JSON, *armor))
    return _text(text, what)


def _text(text: bytes, what: str) -> Opened:
    if text.startswith(_BEGIN):
        return _pem(text, what)
    joined = text.translate(None, _LINE_ENDS)
    if not joined:
        return Opened(text, ())
    digits = joined[2:] if joined[:2] in (b"0x", b"0X") else joined
    if digits and not digits.translate(None, _HEX):
        if len(digits) % 2:
            raise FormatError(f"{what}: is hex of {len(digits)} digits, an odd number", code="bad_encoding")
        return Opened(binascii.unhexlify(digits), (Armor.HEX,))
    if (grouped := hex_of_groups(text)) is not None:
        return Opened(grouped, (Armor.HEX,))
    marks = joined.translate(None, _PLAIN).rstrip(b"=")
    if not marks.translate(None, b"+/") and joined.count(b"=") <= 2:
        return _base64(joined, Armor.BASE64, what)
    if not marks.translate(None, b"-_") and joined.count(b"=") <= 2:
        return _base64(joined.translate(_FROM_URL), Armor.BASE64URL, what)
    return Opened(text, ())


def hex_of_groups(text: bytes) -> bytes | None:
    """Decode hex in groups; None if the text is anything else.

    Args:
        text: lines of groups of 2, 4, up to 64 digits, all of one size; the last of a line may be shorter.
            Colons or single spaces separate them, the same in the whole text. A line may be indented, and may
            end with a separator.
    """
    first = _FIRST.match(text)
    if first is None or text.translate(None, _HEX + _BLANK + b":"):
        return None
    between, size = b":" if b":" in text else b" ", len(first[1])
    if size % 2 or size > _MOST_DIGITS:
        return None
    digits, last = rb"[0-9A-Fa-f]{%d}" % size, rb"(?:[0-9A-Fa-f]{2}){1,%d}+" % (size // 2)
    line = rb"[ \t]*+(?:%s%s)*+(?:%s)?+[ \t]*+" % (digits, between, last)
    if re.fullmatch(rb"(?:%s\r?\n)*+%s" % (line, line), text) is None:
        return None
    return binascii.unhexlify(text.translate(None, _BLANK + b":"))


def _base64(joined: bytes, armor: Armor, what: str) -> Opened:
    if b"=" not in joined:
        joined += b"=" * (-len(joined) % 4)
    try:
        data = binascii.a2b_base64(joined, strict_mode=True)
    except ValueError:
        data = b""
    if binascii.b2a_base64(data, newline=False) != joined:
        raise FormatError(f"{what}: is {armor} that is broken", code="bad_encoding")
    return Opened(data, (armor,))


def _pem(text: bytes, what: str) -> Opened:
    if text.count(_BEGIN) > 1:
        return Opened(text, ())
    match = _PEM.match(text)
    if match is None:
        raise FormatError(f"{what}: is PEM that is broken", code="bad_encoding")
    return Opened(_base64(match[2].translate(None, _LINE_ENDS), Armor.BASE64, what).data, (Armor.PEM,))


def _unescape_quoted(text: bytes, what: str) -> bytes:
    """The text within JSON quotes; only line ends and slashes may be escaped."""
    if b"\\" in text:
        text = text.replace(b"\\r\\n", b"\n").replace(b"\\n", b"\n").replace(b"\\/", b"/")
    if b"\\" in text or b'"' in text:
        raise FormatError(f"{what}: a quoted text holds an escape or a quote", code="bad_encoding")
    return text.strip(_BLANK)
