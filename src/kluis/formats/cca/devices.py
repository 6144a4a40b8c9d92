"""Parse the devices attached to a running CCA platform, and its root of trust keys. Nothing here is verified.

Spec: draft-ffm-rats-cca-token-03, "Platform Extension", "TBB RoTPK"; Arm, "Realm Management Monitor
specification" 2.0, "CCA platform extension", whose devices name no type.
"""

from __future__ import annotations

import enum
from typing import Final, Self

from kluis.formats.encoding.cbor import Value
from kluis.formats.encoding.entries import Entries
from kluis.frozen import frozen

DIGESTS: Final = (32, 48, 64)
MAX_TEXT: Final = 512
MAX_INDEX: Final = 0xFFFF
_DEVICE_NAMES: Final = {
    1: "hash_algorithm",
    2: "measurements",
    3: "certificates",
    4: "uses_ide",
    5: "protocol",
    6: "negotiation",
    7: "kind",
    8: "encryption",
}
_KEY_NAMES: Final = {1: "name", 2: "active_array", 3: "index", 4: "digest"}


class Encryption(enum.Enum):
    """Which component encrypts a device's memory."""

    HOST = 0
    DEVICE = 1
    NONE = 2


@frozen(kw_only=True)
class Device:
    """A device attached to the platform.

    Attributes:
        hash_algorithm: of the digests; None if it is the platform's.
        measurements: digest of the device's measurements, 32, 48 or 64 bytes.
        certificates: digest of its certificate chain, 32, 48 or 64 bytes.
        uses_ide: whether its link is encrypted.
        protocol: that the platform queried it with, such as ``spdm-1.3.0``.
        negotiation: digest of what it and the platform negotiated before; or None.
        kind: of device, such as ``cxl-type-3``; or None.
        encryption: of its memory; or None.
    """

    hash_algorithm: str | None
    measurements: bytes
    certificates: bytes
    uses_ide: bool
    protocol: str
    negotiation: bytes | None
    kind: str | None
    encryption: Encryption | None

    @classmethod
    def read(cls, value: Value, what: str) -> Self:
        """Parse one device.

        Raises:
            FormatError: an entry is missing, unknown, of another type, or out of bounds.
        """
        entries = Entries(value, what, _DEVICE_NAMES)
        entries.only((2, 3, 4, 5), (1, 6, 7, 8))
        return cls(
            hash_algorithm=entries.text_or_none(1, limit=MAX_TEXT),
            measurements=entries.octets(2, DIGESTS),
            certificates=entries.octets(3, DIGESTS),
            uses_ide=entries.boolean(4),
            protocol=entries.text(5, limit=MAX_TEXT),
            negotiation=entries.octets(6, DIGESTS) if 6 in entries else None,
            kind=entries.text_or_none(7, limit=MAX_TEXT),
            encryption=Encryption(entries.integer(8, most=2)) if 8 in entries else None,
        )


@frozen(kw_only=True)
class RootKey:
    """A key that verifies the platform's first firmware.

    Attributes:
        name: of its owner, such as ``DM``.
        active_array: which array of keys is in use, 0..65535.
        index: of the key in the array, 0..65535.
        digest: of the key, 32, 48 or 64 bytes.
    """

    name: str
    active_array: int
    index: int
    digest: bytes

    @classmethod
    def read(cls, value: Value, what: str) -> Self:
        """Parse one key.

        Raises:
            FormatError: an entry is missing, unknown, of another type, or out of bounds.
        """
        entries = Entries(value, what, _KEY_NAMES)
        entries.only((1, 2, 3, 4))
        return cls(
            name=entries.text(1, limit=MAX_TEXT),
            active_array=entries.integer(2, most=MAX_INDEX),
            index=entries.integer(3, most=MAX_INDEX),
            digest=entries.octets(4, DIGESTS),
        )
