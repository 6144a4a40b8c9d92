"""A TPM's quote as Windows hands it out, a platform claim: bytes to parts. Nothing here is verified.

A header, the values of all 24 PCRs of one bank, the quote, its signature, and the log (TSB). Little-endian
but for the quote.

Spec: Microsoft "TPM Platform Crypto-Provider Toolkit", ``PCP_PLATFORM_ATTESTATION_BLOB``.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats._reader import Reader
from kluis.formats.tpm.algorithm import SIZES, HashId
from kluis.formats.tpm.pcrs import PCR_COUNT

WHAT: Final = "platform claim"
MAGIC: Final = 0x44504150
TPM_2: Final = 2
MAX_SIZE: Final = 3 << 20
_SHORT_HEADER: Final = 28
_LONG_HEADER: Final = 32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlatformClaim:
    """A claim, taken apart.

    Attributes:
        bank: of the values.
        values: of PCRs 0 to 23.
        quote: TPMS_ATTEST.
        signature: raw, of RSASSA with SHA-256, or a TPMT_SIGNATURE.
        log: of events.
    """

    bank: HashId
    values: tuple[bytes, ...]
    quote: bytes
    signature: bytes
    log: bytes

    def encode(self) -> bytes:
        """Write the claim, with the header that names the bank."""
        parts = (b"".join(self.values), self.quote, self.signature, self.log)
        head = (MAGIC, TPM_2, _LONG_HEADER, *map(len, parts), int(self.bank))
        return b"".join((*(number.to_bytes(4, "little") for number in head), *parts))


def parse(data: bytes) -> PlatformClaim:
    """Read one claim; nothing may follow it.

    Args:
        data: at most 3 MiB.

    Raises:
        UnsupportedError: of another TPM than 2.0, or another header.
        FormatError: sizes that do not fit.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT)
    magic, platform, header = r.u32("magic"), r.u32("platform"), r.u32("header size")
    if magic != MAGIC:
        raise FormatError(f"{WHAT}.magic at 0x0: want {MAGIC:#x}, got {magic:#x}", code="bad_magic")
    if platform != TPM_2 or header not in (_SHORT_HEADER, _LONG_HEADER):
        raise UnsupportedError(
            f"{WHAT}: want a TPM 2.0 and a header of {_SHORT_HEADER} or {_LONG_HEADER} bytes, got {platform} "
            f"and {header}",
            code="bad_version",
        )
    sizes = [r.u32(f"{name} size") for name in ("values", "quote", "signature", "log")]
    named = r.u32("bank") if header == _LONG_HEADER else HashId.SHA1
    if named not in (HashId.SHA1, HashId.SHA256) or sizes[0] != PCR_COUNT * SIZES[named]:
        raise FormatError(
            f"{WHAT}: want the values of {PCR_COUNT} PCRs, got {sizes[0]} bytes", code="bad_length"
        )
    bank = HashId(named)
    values = tuple(r.take(SIZES[bank], f"PCR {index}") for index in range(PCR_COUNT))
    quote, signature, log = (r.take(size, "part") for size in sizes[1:])
    r.end()
    return PlatformClaim(bank=bank, values=values, quote=quote, signature=signature, log=log)
