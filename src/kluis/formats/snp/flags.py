"""Parse the bit fields of a report into small typed values. Nothing here is verified.

Spec: AMD 56860, SEV-SNP Firmware ABI: "Guest Policy", and in table "ATTESTATION_REPORT Structure"
PLATFORM_INFO and the flags at 0x48.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import ClassVar, Final, Self

from kluis.errors import FormatError
from kluis.frozen import frozen

_POLICY_ONE: Final = 1 << 17
_POLICY_BITS: Final = 26
_FLAGS_BITS: Final = 5
# Few values occur in practice, and parsing one always gives the same result.
_HELD: Final = 256


class SigningKey(enum.Enum):
    """The kind of key that signed a report, as the report states it."""

    NONE = 7
    VLEK = 1
    VCEK = 0


@frozen(kw_only=True)
class GuestPolicy:
    """The guest owner's restrictions on the host, which the firmware enforces.

    Attributes:
        abi_minor: lowest firmware ABI, minor.
        abi_major: lowest firmware ABI, major.
        smt: hyper-threading may be on.
        migrate_ma: a migration agent may be bound.
        debug: the host may read and write the guest's memory.
        single_socket: the guest runs on one socket only.
        cxl: CXL devices and memory may be present.
        aes_256_xts: memory encryption must be AES-256 in XTS mode.
        rapl_disabled: running average power limit must be off.
        ciphertext_hiding: the host must not see the ciphertext of DRAM.
        page_swap_disabled: pages may not be moved or swapped out.
    """

    abi_minor: int
    abi_major: int
    smt: bool
    migrate_ma: bool
    debug: bool
    single_socket: bool
    cxl: bool
    aes_256_xts: bool
    rapl_disabled: bool
    ciphertext_hiding: bool
    page_swap_disabled: bool

    _PLACES: ClassVar[dict[str, int]] = {
        "smt": 16,
        "migrate_ma": 18,
        "debug": 19,
        "single_socket": 20,
        "cxl": 21,
        "aes_256_xts": 22,
        "rapl_disabled": 23,
        "ciphertext_hiding": 24,
        "page_swap_disabled": 25,
    }

    @classmethod
    @lru_cache(maxsize=_HELD)
    def parse(cls, value: int) -> Self:
        """Read 64 bits.

        Raises:
            FormatError: bit 17 is off, or a bit above 25 is on.
        """
        if not value & _POLICY_ONE or value >> _POLICY_BITS:
            raise FormatError(
                f"SNP guest policy: want bit 17 on and none above 25, got {value:#x}", code="bad_encoding"
            )
        bits = {name: bool(value >> place & 1) for name, place in cls._PLACES.items()}
        return cls(abi_minor=value & 0xFF, abi_major=value >> 8 & 0xFF, **bits)

    def encode(self) -> int:
        """Write the 64 bits."""
        value = self.abi_minor | self.abi_major << 8 | _POLICY_ONE
        return value | _encode_bits(self, self._PLACES)


@frozen(kw_only=True)
class PlatformInfo:
    """The platform's configuration. New firmware sets new bits: they are reported and do not cause a refusal.

    Attributes:
        smt: hyper-threading is on.
        tsme: all memory is encrypted, of guests and host.
        ecc: memory corrects errors.
        rapl_disabled: running average power limit is off.
        ciphertext_hiding: the host does not see the ciphertext of DRAM.
        alias_check_complete: memory modules were checked for aliases (BadRAM).
        tio: trusted I/O is on.
        unknown: the bits without a field.
    """

    smt: bool
    tsme: bool
    ecc: bool
    rapl_disabled: bool
    ciphertext_hiding: bool
    alias_check_complete: bool
    tio: bool
    unknown: int

    _PLACES: ClassVar[dict[str, int]] = {
        "smt": 0,
        "tsme": 1,
        "ecc": 2,
        "rapl_disabled": 3,
        "ciphertext_hiding": 4,
        "alias_check_complete": 5,
        "tio": 7,
    }
    _KNOWN: ClassVar[int] = sum(1 << place for place in _PLACES.values())

    @classmethod
    @lru_cache(maxsize=_HELD)
    def parse(cls, value: int) -> Self:
        """Read 64 bits."""
        bits = {name: bool(value >> place & 1) for name, place in cls._PLACES.items()}
        return cls(unknown=value & ~cls._KNOWN, **bits)

    def encode(self) -> int:
        """Write the 64 bits."""
        return self.unknown | _encode_bits(self, self._PLACES)


@frozen(kw_only=True)
class Flags:
    """A report's flags about its keys.

    Attributes:
        author_key: an author's key signed the id key, and its digest is valid.
        mask_chip_key: the chip's own key is masked.
        signing_key: the key that signed the report.
    """

    author_key: bool
    mask_chip_key: bool
    signing_key: SigningKey

    @classmethod
    @lru_cache(maxsize=_HELD)
    def parse(cls, value: int) -> Self:
        """Read 32 bits.

        Raises:
            FormatError: a reserved bit is on, or the signing key is unknown.
        """
        try:
            signing_key = SigningKey(value >> 2)
        except ValueError:
            raise FormatError(
                f"SNP report flags: want signing key 0, 1 or 7 and none of bits 31:{_FLAGS_BITS}, "
                f"got {value:#x}",
                code="bad_encoding",
            ) from None
        return cls(author_key=bool(value & 1), mask_chip_key=bool(value & 2), signing_key=signing_key)

    def encode(self) -> int:
        """Write the 32 bits."""
        return self.author_key | self.mask_chip_key << 1 | self.signing_key.value << 2


def _encode_bits(bits: GuestPolicy | PlatformInfo, places: dict[str, int]) -> int:
    return sum(1 << place for name, place in places.items() if getattr(bits, name))
