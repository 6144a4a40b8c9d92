"""Parse certification data, which identify the certificate of a quote's platform. Nothing here is verified.

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "QE Certification Data" (Version 3),
"QE Certification Data" (Version 4).
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.errors import UnsupportedError


class CertificationType(enum.IntEnum):
    """The type of certification data. Only a chain lets a verifier proceed without a lookup."""

    PPID = 1
    PPID_RSA2048 = 2
    PPID_RSA3072 = 3
    PCK_LEAF = 4
    PCK_CHAIN = 5
    QE_REPORT = 6
    PLATFORM_MANIFEST = 7


_TYPES: Final = {kind.value: kind for kind in CertificationType}


def kind(value: int, what: str, offset: int) -> CertificationType:
    """Read a type of certification data.

    Args:
        value: as found.
        what: for messages.
        offset: where it was found.

    Raises:
        UnsupportedError: not a known type.
    """
    certification_type = _TYPES.get(value)
    if certification_type is None:
        raise UnsupportedError(
            f"{what}.certification_type at {offset:#x}: want 1 to 7, got {value}", code="bad_type"
        )
    return certification_type
