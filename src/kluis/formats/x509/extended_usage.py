"""Read the extended key usage of a certificate. Spec: RFC 5280, "Extended Key Usage"."""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import der
from kluis.formats.x509.parts import format_oid

MAX_USAGES: Final = 16


def read_usages(data: bytes, what: str) -> tuple[str, ...]:
    """Read the extension's value: dotted identifiers, at most 16.

    Args:
        data: DER.
        what: the certificate, for messages.

    Raises:
        FormatError: not a sequence of object identifiers, or more.
    """
    position, end = der.within(data, 0, len(data), der.SEQUENCE, what)
    if end != len(data):
        raise FormatError(f"{what}: bytes after the extended key usage", code="trailing_data")
    usages: list[str] = []
    while position < end:
        if len(usages) == MAX_USAGES:
            raise FormatError(f"{what}: more than {MAX_USAGES} usages", code="too_large")
        _, stop = der.within(data, position, end, der.OID, what)
        usages.append(format_oid(data[position:stop]))
        position = stop
    return tuple(usages)
