"""Determine which X.509 structure DER contains, from its first elements only.

Spec: RFC 5280, "Basic Certificate Fields", "CertificateList Fields".
"""

from __future__ import annotations

import enum

from kluis.errors import FormatError
from kluis.formats.encoding import der


class Structure(enum.Enum):
    """Structures that start with a sequence in a sequence, by the tag that follows."""

    CERTIFICATE = 0xA0
    CRL = der.INTEGER
    PUBLIC_KEY = der.OID


def structure_of(data: bytes) -> Structure | None:
    """The X.509 structure that DER looks like; None if it is another kind of data."""
    try:
        start, end = der.within(data, 0, len(data), der.SEQUENCE, "DER")
        inner, inner_end = der.within(data, start, end, der.SEQUENCE, "DER")
        tag, _, _ = der.bounds(data, inner, inner_end, "DER")
    except FormatError:
        return None
    return Structure(tag) if tag in {structure.value for structure in Structure} else None
