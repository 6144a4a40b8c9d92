"""Decode bytes from clients: strict base64url, and the two other spellings that occur."""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import b64
from kluis.services.keyvault.faults import BadParameter

MAX_VALUE: Final = 64 * 1024


def decode_base64(text: object, what: str, *, most: int = MAX_VALUE) -> bytes:
    """Decode like :func:`kluis.formats.encoding.b64.decode_either`.

    Raises:
        BadParameter: not text, not base64, or longer.
    """
    try:
        return b64.decode_either(text, what, most=most)
    except FormatError as error:
        raise BadParameter(error.message) from None
