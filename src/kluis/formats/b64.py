"""Base64, strictly: one text for the same bytes, so that nothing is read in two ways.

Spec: RFC 4648, sections 4, 5 and 3.5 (unused bits are zero).
"""

from __future__ import annotations

import base64
import binascii

from kluis.errors import FormatError


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
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise FormatError(f"{what}: is not base64", code="bad_encoding") from None
    if encode(data) != text:
        raise FormatError(f"{what}: is not the one base64 of its bytes", code="bad_encoding")
    return data


def decode_url(text: str, what: str) -> bytes:
    """Read base64url without padding, and without spaces.

    Raises:
        FormatError: another alphabet, padding, or unused bits that are set.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise FormatError(f"{what}: is not base64url", code="bad_encoding") from None
    if encode_url(data) != text:
        raise FormatError(f"{what}: is not the one base64url of its bytes", code="bad_encoding")
    return data
