"""Parse platform claims, the form in which Windows returns a TPM's quote. Nothing here is verified.

A claim has a header, the values of all 24 PCRs of one bank, the quote, its signature, and the log.
Little-endian, except the quote.

Spec: Microsoft "TPM Platform Crypto-Provider Toolkit", header ``TpmAtt.h``, PCP_PLATFORM_ATTESTATION_BLOB
(magic 'SDAP', for SHA-1) and PCP_PLATFORM_ATTESTATION_BLOB2 (magic '2DAP', which names its bank). The layout
follows its ``TpmAttGeneratePlatformAttestation``. The toolkit's users rely on ``NCryptCreateClaim`` writing
the same; no recorded claim was available to confirm it.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.algorithm import SIZES, HashId
from kluis.formats.tpm.pcrs import PCR_COUNT
from kluis.frozen import frozen

WHAT: Final = "platform claim"
# PADS and PAD2 as bytes.
MAGIC: Final = 0x53444150
MAGIC_2: Final = 0x32444150
TPM_2: Final = 2
MAX_SIZE: Final = 3 << 20
_HEADERS: Final = {MAGIC: 28, MAGIC_2: 32}


@frozen(kw_only=True)
class PlatformClaim:
    """A parsed claim.

    Attributes:
        bank: of the values.
        values: of PCRs 0 to 23.
        quote: TPMS_ATTEST.
        signature: only the RSASSA's bytes; a claim does not state the hash.
        log: the event log.
        named: whether the claim names its bank; the older form is for SHA-1 and does not.
    """

    bank: HashId
    values: tuple[bytes, ...]
    quote: bytes
    signature: bytes
    log: bytes
    named: bool = True

    def encode(self) -> bytes:
        """Write the claim: SHA-1 in the older form, other banks in the form that names them."""
        parts = (b"".join(self.values), self.quote, self.signature, self.log)
        older = self.bank is HashId.SHA1 and not self.named
        magic, name = (MAGIC, ()) if older else (MAGIC_2, (int(self.bank),))
        head = (magic, TPM_2, _HEADERS[magic], *map(len, parts), *name)
        return b"".join((*(number.to_bytes(4, "little") for number in head), *parts))


def parse(data: bytes) -> PlatformClaim:
    """Parse one claim; no bytes may follow it.

    Args:
        data: at most 3 MiB.

    Raises:
        UnsupportedError: for a TPM other than 2.0, or another header.
        FormatError: sizes that do not fit.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT)
    magic, platform, header = r.u32("magic"), r.u32("platform"), r.u32("header size")
    if magic not in _HEADERS:
        raise FormatError(
            f"{WHAT}.magic at 0x0: want {MAGIC:#x} or {MAGIC_2:#x}, got {magic:#x}", code="bad_magic"
        )
    if platform != TPM_2 or header != _HEADERS[magic]:
        raise UnsupportedError(
            f"{WHAT}: want a TPM 2.0 and a header of {_HEADERS[magic]} bytes, got {platform} and {header}",
            code="bad_version",
        )
    sizes = [r.u32(f"{name} size") for name in ("values", "quote", "signature", "log")]
    number = r.u32("bank") if magic == MAGIC_2 else HashId.SHA1
    if number not in (HashId.SHA1, HashId.SHA256) or sizes[0] != PCR_COUNT * SIZES[number]:
        raise FormatError(
            f"{WHAT}: want the values of {PCR_COUNT} PCRs, got {sizes[0]} bytes", code="bad_length"
        )
    bank = HashId(number)
    values = tuple(r.take(SIZES[bank], f"PCR {index}") for index in range(PCR_COUNT))
    quote, signature, log = (r.take(size, "part") for size in sizes[1:])
    r.end()
    return PlatformClaim(
        bank=bank, values=values, quote=quote, signature=signature, log=log, named=magic == MAGIC_2
    )
