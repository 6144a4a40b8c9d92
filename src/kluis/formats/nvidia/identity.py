"""Read the device's product line and serial from its certificate's subject alternative name.

Spec: DMTF DSP0274 1.1, "Leaf certificate"; DMTF object identifier 1.3.6.1.4.1.412.274.1, text
``manufacturer:product:serial``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import der
from kluis.frozen import frozen

ALTERNATIVE_NAME: Final = "2.5.29.17"
_DEVICE: Final = der.oid("1.3.6.1.4.1.412.274.1")
_UTF8: Final = 0x0C
_NAME: Final = re.compile(rb"NVIDIA:([A-Z0-9_]{2,16}):([0-9A-F]{16})")


@frozen
class Identity:
    """A device.

    Attributes:
        product: such as ``GH100``.
        serial: 8 bytes.
    """

    product: str
    serial: bytes


def read(extensions: Mapping[str, bytes], what: str) -> Identity:
    """Parse the device's identity.

    Args:
        extensions: of the certificate, by identifier.
        what: the certificate, for messages.

    Raises:
        FormatError: missing or malformed.
    """
    value = extensions.get(ALTERNATIVE_NAME)
    if value is None:
        raise FormatError(f"{what}: names no device", code="cert_profile")
    what = f"{what}.alternative name"
    position, limit = der.within(value, 0, len(value), der.SEQUENCE, what)
    start, end = der.within(value, position, limit, 0xA0, what)
    _, after = der.within(value, start, end, der.OID, what)
    if end != len(value) or value[start:after] != _DEVICE:
        raise FormatError(f"{what}: want one name, a DMTF device's", code="cert_profile")
    start, stop = der.within(value, after, end, 0xA0, what)
    start, last = der.within(value, start, stop, _UTF8, what)
    match = _NAME.fullmatch(value, start, last)
    if match is None or stop != end or last != stop:
        raise FormatError(
            f"{what}: want NVIDIA:product:serial, got {value[start:last][:48]!a}", code="bad_encoding"
        )
    return Identity(match[1].decode(), bytes.fromhex(match[2].decode()))
