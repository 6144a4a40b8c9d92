"""Parse certification data, which identify the certificate of a quote's platform. Nothing here is verified.

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "QE Certification Data" (Version 3),
"QE Certification Data" (Version 4).
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.layout import U16, Struct, at, layout


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


class PckId(Struct):
    """Identifies the PCK certificate to fetch; ``ppid`` names the platform, in clear or encrypted to
    Intel.
    """

    ppid: bytes
    cpusvn: bytes
    pcesvn: int
    pceid: bytes


@layout("PPID in clear", 36)
class ClearPckId(PckId):
    """Type 1: 36 bytes."""

    ppid: bytes = at(0, 16)
    cpusvn: bytes = at(16, 16)
    pcesvn: int = at(32, U16)
    pceid: bytes = at(34, 2)


@layout("PPID under RSA-2048", 276)
class Rsa2048PckId(PckId):
    """Type 2, and type 3 of some platforms: 276 bytes."""

    ppid: bytes = at(0, 256)
    cpusvn: bytes = at(256, 16)
    pcesvn: int = at(272, U16)
    pceid: bytes = at(274, 2)


@layout("PPID under RSA-3072", 404)
class Rsa3072PckId(PckId):
    """Type 3: 404 bytes."""

    ppid: bytes = at(0, 384)
    cpusvn: bytes = at(384, 16)
    pcesvn: int = at(400, U16)
    pceid: bytes = at(402, 2)


_PCK_IDS: Final[dict[CertificationType, tuple[type[PckId], ...]]] = {
    CertificationType.PPID: (ClearPckId,),
    CertificationType.PPID_RSA2048: (Rsa2048PckId,),
    CertificationType.PPID_RSA3072: (Rsa3072PckId, Rsa2048PckId),
}


def kind(value: int, what: str, offset: int) -> CertificationType:
    """Read a type of certification data.

    Args:
        value: as found.
        what: for messages.
        offset: where it was found.

    Raises:
        UnsupportedError: not a known type.
    """
    found = _TYPES.get(value)
    if found is None:
        raise UnsupportedError(
            f"{what}.certification_type at {offset:#x}: want 1 to 7, got {value}", code="bad_type"
        )
    return found


def pck_id(kind: CertificationType, data: bytes) -> PckId | None:
    """Read the identity of the PCK certificate, if the certification data contain one.

    Args:
        kind: their type.
        data: 36, 276 or 404 bytes, of types 1 to 3.

    Returns:
        None for every other type.

    Raises:
        FormatError: another size.
    """
    known = _PCK_IDS.get(kind)
    if known is None:
        return None
    for one in known:
        if len(data) == one.SIZE:
            return one.parse(data)
    sizes = " or ".join(str(one.SIZE) for one in known)
    raise FormatError(
        f"certification data of type {kind.value}: want {sizes} bytes, got {len(data)}", code="bad_length"
    )
