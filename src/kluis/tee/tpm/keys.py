"""The TPM keys that drivers create, always from the same templates: the same TPM creates the same keys.

Spec: TCG "TPM v2.0 Provisioning Guidance", "Storage Root Key"; TCG "TPM 2.0 Keys for Device Identity and
Attestation", "Attestation Key".
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from kluis.formats.tpm.algorithm import ECDSA, OAEP, RSAES, RSASSA, HashId
from kluis.formats.tpm.command import ENDORSEMENT, OWNER
from kluis.formats.tpm.public import Attribute, EcPublic, Public, RsaPublic
from kluis.tee.tpm.tpm import Tpm

_P256: Final = 3
_FIXED: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.USER_WITH_AUTH
    | Attribute.NO_DA
    | Attribute.RESTRICTED
)
_STORAGE: Final = Public(
    name_hash=HashId.SHA256,
    attributes=_FIXED | Attribute.DECRYPT,
    policy=b"",
    key=EcPublic(scheme=None, hash=None, curve=_P256, x=bytes(32), y=bytes(32)),
    symmetric=128,
)
_ATTESTATION: Final = Public(
    name_hash=HashId.SHA256,
    attributes=_FIXED | Attribute.SIGN,
    policy=b"",
    key=EcPublic(scheme=ECDSA, hash=HashId.SHA256, curve=_P256, x=bytes(32), y=bytes(32)),
)

RSA_ATTESTATION: Final = dataclasses.replace(
    _ATTESTATION,
    key=RsaPublic(scheme=RSASSA, hash=HashId.SHA256, bits=2048, exponent=0, modulus=b"\x80" + bytes(255)),
)
"""The template of an attestation key as Azure's paravisor creates it: RSA of 2048 bits."""
UNIQUE_BYTES: Final = 256
SCHEMES: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        "rsaes": RSAES.to_bytes(2, "big"),
        "oaep-sha256": OAEP.to_bytes(2, "big") + HashId.SHA256.to_bytes(2, "big"),
    }
)
"""TPMT_RSA_DECRYPT of each scheme, by name."""


def decryption(unique: bytes) -> Public:
    """The template of an RSA key of 2048 bits that decrypts, another one for each 256 bytes ``unique``."""
    return Public(
        name_hash=HashId.SHA256,
        attributes=(_FIXED & ~Attribute.RESTRICTED) | Attribute.DECRYPT,
        policy=b"",
        key=RsaPublic(scheme=None, hash=None, bits=2048, exponent=0, modulus=unique),
    )


@contextlib.contextmanager
def storage_key(tpm: Tpm) -> Iterator[int]:
    """The handle of the owner's storage key, which protects sealed objects; flushed at the end."""
    with tpm.holding(tpm.create_primary(OWNER, _STORAGE.encode())) as handle:
        yield handle


@contextlib.contextmanager
def attestation_key(tpm: Tpm) -> Iterator[int]:
    """The handle of an attestation key under the TPM's endorsement seed; flushed at the end."""
    with tpm.holding(tpm.create_primary(ENDORSEMENT, _ATTESTATION.encode())) as handle:
        yield handle
