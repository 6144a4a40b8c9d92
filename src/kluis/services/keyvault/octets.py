"""Bytes as clients send them: base64url by the book, and the two other spellings that are met.

Python's client leaves padding out, Go's writes it, and some tools use the other alphabet.
"""

from __future__ import annotations

import binascii
from typing import Final

from kluis.services.keyvault.faults import BadParameter

__all__ = ["MAX_VALUE", "octets"]

MAX_VALUE: Final = 64 * 1024
_URL: Final = bytes.maketrans(b"-_", b"+/")


def octets(text: object, what: str, *, most: int = MAX_VALUE) -> bytes:
    """Read base64url or base64, with padding or without.

    Args:
        text: what a client sent.
        what: the member, for the message.
        most: bytes.

    Raises:
        BadParameter: no text, not base64, or longer.
    """
    if not isinstance(text, str):
        raise BadParameter(f"{what}: want base64url, got {'none' if text is None else 'something else'}")
    if len(text) > most * 4 // 3 + 4:
        raise BadParameter(f"{what}: want at most {most} bytes, got more")
    try:
        raw = text.encode("ascii").translate(_URL).rstrip(b"=")
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except ValueError:
        raise BadParameter(f"{what}: want base64url, got something else") from None
