"""A revocation list in any of the forms in which makers and caches hand it over."""

from __future__ import annotations

import base64
import re
from typing import Final

from kluis.errors import FormatError

_PEM_CRL: Final = re.compile(
    rb"\s*-----BEGIN X509 CRL-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END X509 CRL-----\s*"
)
_HEX: Final = re.compile(rb"\s*((?:[0-9A-Fa-f]{2})+)\s*")


def crl_der(data: bytes, what: str) -> bytes:
    """Read a CRL that comes as DER, as hex of DER (PCCS version 3) or as PEM, and give DER.

    Raises:
        FormatError: none of the three.
    """
    if data[:1] == b"\x30" and _HEX.fullmatch(data) is None:
        return data
    if (match := _HEX.fullmatch(data)) is not None:
        return bytes.fromhex(match[1].decode())
    if (match := _PEM_CRL.fullmatch(data)) is not None:
        return _base64(match[1], what)
    raise FormatError(f"{what}: want a CRL as DER, hex or PEM", code="bad_encoding")


def _base64(text: bytes, what: str) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError:
        raise FormatError(f"{what}: is not base64", code="bad_encoding") from None
