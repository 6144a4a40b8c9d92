"""Base64, strictly: each byte string has exactly one accepted encoding.

Spec: RFC 4648, sections 4, 5 and 3.5 (unused bits are zero).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from kluis.errors import FormatError

_FROM_EITHER: Final = bytes.maketrans(b"-_", b"+/")


def encode(data: bytes) -> str:
    """Write base64 with padding."""
    return base64.b64encode(data).decode()


def encode_url(data: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str, what: str) -> bytes:
    """Read base64 with padding, and without spaces.

    Raises:
        FormatError: another alphabet, no padding, or unused bits that are set.
    """
    try:
        return _exact(text.encode("ascii"))
    except ValueError:
        raise FormatError(
            f"{what}: is not base64, or not the one of its bytes", code="bad_encoding"
        ) from None


def decode_url(text: str, what: str) -> bytes:
    """Read base64url without padding, and without spaces.

    Raises:
        FormatError: another alphabet, padding, or unused bits that are set.
    """
    try:
        raw = text.encode("ascii")
        if b"+" in raw or b"/" in raw or b"=" in raw:
            raise ValueError("the other alphabet, or padding")
        # Faster than a table of both alphabets, which looks at each character.
        return _exact(raw.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(raw) % 4))
    except ValueError:
        raise FormatError(
            f"{what}: is not base64url, or not the one of its bytes", code="bad_encoding"
        ) from None


def decode_either(text: object, what: str, *, most: int) -> bytes:
    """Read base64url or base64, padded or not: Python's clients omit padding, Go's clients write it.

    Args:
        text: untrusted input.
        what: name for error messages.
        most: bytes.

    Raises:
        FormatError: not text, not base64, or longer.
    """
    if not isinstance(text, str):
        raise FormatError(f"{what}: want base64url, got {'nothing' if text is None else 'something else'}")
    if len(text) > most * 4 // 3 + 4:
        raise FormatError(f"{what}: want at most {most} bytes, got more")
    try:
        raw = text.encode("ascii").translate(_FROM_EITHER).rstrip(b"=")
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except ValueError:
        raise FormatError(f"{what}: want base64url, got something else") from None


def _exact(raw: bytes) -> bytes:
    data = binascii.a2b_base64(raw, strict_mode=True)
    # Strict mode refuses everything except unused bits, and those are in the characters of the last three
    # bytes.
    whole = max(len(data) - 1, 0) // 3
    if binascii.b2a_base64(data[3 * whole :], newline=False) != raw[4 * whole :]:
        raise ValueError("unused bits")
    return data
