"""What a TPM's certificate says its key is for. Nothing here is verified.

Spec: RFC 5280, "Extended Key Usage"; TCG "EK Credential Profile", "Extended Key Usage".
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats import der

OID: Final = "2.5.29.37"
EK_CERTIFICATE: Final = "2.23.133.8.1"
AK_CERTIFICATE: Final = "2.23.133.8.3"
MAX_USAGES: Final = 16
_KNOWN: Final = {der.oid(dotted): dotted for dotted in (EK_CERTIFICATE, AK_CERTIFICATE)}


def parse_usages(data: bytes, what: str) -> tuple[str, ...]:
    """Read an extended key usage, at most 16; those that are not a TPM's are left out.

    Raises:
        FormatError: not a sequence of object identifiers.
    """
    start, end = der.within(data, 0, len(data), der.SEQUENCE, what)
    if end != len(data):
        raise FormatError(f"{what}: bytes after the extended key usage", code="trailing_data")
    found: list[str] = []
    count = 0
    while start < end:
        count += 1
        if count > MAX_USAGES:
            raise FormatError(f"{what}: more than {MAX_USAGES} usages", code="too_large")
        _, stop = der.within(data, start, end, der.OID, what)
        if usage := _KNOWN.get(data[start:stop]):
            found.append(usage)
        start = stop
    return tuple(found)
