"""Parse the public area of an NV index, TPMS_NV_PUBLIC, and write it back. Nothing here is verified.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPMA_NV", "TPMS_NV_PUBLIC". Big-endian.
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.algorithm import HashId, hash_id
from kluis.formats.tpm.attest import encode_sized, read_sized
from kluis.frozen import frozen

WHAT: Final = "TPM NV public area"
MAX_SIZE: Final = 128
FIRST: Final = 0x01000000
LAST: Final = 0x01FFFFFF
COUNTER_SIZE: Final = 8


class NvAttribute(enum.IntFlag):
    """TPMA_NV: who may read and write an index, its type in bits 4 to 7, and whether it was written."""

    OWNER_WRITE = 1 << 1
    AUTH_WRITE = 1 << 2
    COUNTER = 1 << 4
    NO_DA = 1 << 25
    OWNER_READ = 1 << 17
    AUTH_READ = 1 << 18
    WRITTEN = 1 << 29


TYPE: Final = 0xF0
"""Bits of the attributes that have the index's type: 0 for ordinary bytes."""


@frozen(kw_only=True)
class NvPublic:
    """An NV index's public area.

    Attributes:
        index: handle, 0x01000000..0x01FFFFFF.
        name_hash: the hash of its name.
        attributes: 32 bits, TPMA_NV.
        policy: 0 to 64 bytes.
        size: of its data, in bytes.
    """

    index: int
    name_hash: HashId
    attributes: int
    policy: bytes
    size: int

    def encode(self) -> bytes:
        """Write the TPMS_NV_PUBLIC."""
        return b"".join(
            (
                self.index.to_bytes(4, "big"),
                self.name_hash.to_bytes(2, "big"),
                self.attributes.to_bytes(4, "big"),
                encode_sized(self.policy),
                self.size.to_bytes(2, "big"),
            )
        )


def parse(data: bytes) -> NvPublic:
    """Parse one TPMS_NV_PUBLIC; no bytes may follow it.

    Raises:
        UnsupportedError: an unknown hash.
        FormatError: malformed, or not an NV index.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT, byte_order="big")
    index = r.u32("index")
    if not FIRST <= index <= LAST:
        raise FormatError(
            f"{WHAT}.index at 0x0: want {FIRST:#x}..{LAST:#x}, got {index:#x}", code="bad_encoding"
        )
    public = NvPublic(
        index=index,
        name_hash=hash_id(r.u16("name_hash"), f"{WHAT}.name_hash"),
        attributes=r.u32("attributes"),
        policy=read_sized(r, "policy", 64),
        size=r.u16("size"),
    )
    r.end()
    return public
