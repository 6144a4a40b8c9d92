"""TPM algorithm identifiers: the hashes of PCR banks, and the kinds of keys and signatures.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPM_ALG_ID".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kluis.errors import UnsupportedError


class HashId(enum.IntEnum):
    """A hash algorithm of banks, digests and signatures."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    SM3 = 0x0012

    @property
    def size(self) -> int:
        """Digest size in bytes."""
        return SIZES[self]

    @property
    def label(self) -> str:
        """Its name in ``hashlib``, such as ``sha256``."""
        return _LABEL_OF[self]


SIZES: Final[Mapping[int, int]] = MappingProxyType(
    {HashId.SHA1: 20, HashId.SHA256: 32, HashId.SHA384: 48, HashId.SHA512: 64, HashId.SM3: 32}
)
_LABEL_OF: Final = {hash_id: hash_id.name.lower() for hash_id in HashId}
LABELS: Final[Mapping[str, HashId]] = MappingProxyType({hash_id.label: hash_id for hash_id in HashId})

RSA: Final = 0x0001
AES: Final = 0x0006
ECC: Final = 0x0023
NULL: Final = 0x0010
RSASSA: Final = 0x0014
RSAES: Final = 0x0015
RSAPSS: Final = 0x0016
OAEP: Final = 0x0017
ECDSA: Final = 0x0018
CFB: Final = 0x0043


def hash_id(value: int, what: str) -> HashId:
    """The hash algorithm with this identifier.

    Raises:
        UnsupportedError: an unknown identifier.
    """
    if value not in SIZES:
        raise UnsupportedError(
            f"{what}: hash {value:#06x}; supported: {[f'{known:#06x}' for known in SIZES]}", code="bad_type"
        )
    return HashId(value)
