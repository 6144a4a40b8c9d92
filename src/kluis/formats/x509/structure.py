"""Which of X.509's structures DER is, by its first elements alone.

Spec: RFC 5280, "Basic Certificate Fields", "CertificateList Fields".
"""

from __future__ import annotations

import enum

from kluis.errors import FormatError
from kluis.formats.encoding import der


class Structure(enum.Enum):
    """What begins with a sequence in a sequence, by the tag of what follows."""

    CERTIFICATE = 0xA0
    CRL = der.INTEGER
    PUBLIC_KEY = der.OID


def structure_of(data: bytes) -> Structure | None:
    """What DER looks like; None where it is nothing of X.509."""
    try:
        start, end = der.within(data, 0, len(data), der.SEQUENCE, "DER")
        inner, inner_end = der.within(data, start, end, der.SEQUENCE, "DER")
        tag, _, _ = der.bounds(data, inner, inner_end, "DER")
    except FormatError:
        return None
    return Structure(tag) if tag in {structure.value for structure in Structure} else None
