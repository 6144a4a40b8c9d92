"""Base64, strictly: one text for the same bytes, so that nothing is read in two ways.

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
        # Quicker than a table of both, which looks at each letter by itself.
        return _exact(raw.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(raw) % 4))
    except ValueError:
        raise FormatError(
            f"{what}: is not base64url, or not the one of its bytes", code="bad_encoding"
        ) from None


def decode_either(text: object, what: str, *, most: int) -> bytes:
    """Read base64url or base64, padded or not: Python's clients leave padding out, Go's write it.

    Args:
        text: what somebody sent.
        what: for the message.
        most: bytes.

    Raises:
        FormatError: no text, not base64, or longer.
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
    # The strict mode refuses all but unused bits, and those are in the last three bytes' letters.
    whole = max(len(data) - 1, 0) // 3
    if binascii.b2a_base64(data[3 * whole :], newline=False) != raw[4 * whole :]:
        raise ValueError("unused bits")
    return data
