"""Parse TPMS_ATTEST, the structure that a TPM signs when it quotes PCRs. Nothing here is verified.

Other attestations (certified keys, time, audits) are refused by type. Big-endian.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPMS_ATTEST", "TPMS_QUOTE_INFO",
"TPML_PCR_SELECTION", "TPMS_CLOCK_INFO".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.layout import U8, U32, U64, Struct, at, layout
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.algorithm import HashId, hash_id
from kluis.frozen import frozen

WHAT: Final = "TPM quote"
MAX_SIZE: Final = 1024
GENERATED: Final = 0xFF544347
QUOTE: Final = 0x8018
# One selection for each bank, and a TPM has few banks: little work may be done before the signature is
# verified.
MAX_BANKS: Final = 16
MAX_SELECT: Final = 4
_CLOCK_SIZE: Final = 25


@layout("TPM clock", _CLOCK_SIZE, byte_order="big")
class Clock(Struct):
    """TPMS_CLOCK_INFO and the firmware's version: 25 bytes.

    ``milliseconds`` counts while the TPM is powered. ``reset_count`` and ``restart_count`` count resets and
    resumes. ``safe`` is 1 if no lower ``milliseconds`` was ever reported.
    """

    milliseconds: int = at(0, U64)
    reset_count: int = at(8, U32)
    restart_count: int = at(12, U32)
    safe: int = at(16, U8)
    firmware_version: int = at(17, U64)


@frozen
class Selection:
    """A selection of PCRs in one bank.

    Attributes:
        bank: the hash of the bank.
        bitmap: 1 to 4 bytes; the lowest bit of the first is PCR 0.
    """

    bank: HashId
    bitmap: bytes

    @property
    def indices(self) -> tuple[int, ...]:
        """The selected PCRs, ascending."""
        bits = int.from_bytes(self.bitmap, "little")
        return tuple(index for index in range(8 * len(self.bitmap)) if bits >> index & 1)

    @classmethod
    def of(cls, bank: HashId, *indices: int) -> Selection:
        """Select ``indices``, each 0..23, in the 3 bytes that TPMs write."""
        return cls(bank, sum(1 << index for index in set(indices)).to_bytes(3, "little"))


@frozen(kw_only=True)
class Quote:
    """A parsed quote.

    Attributes:
        qualified_signer: the key's qualified name, at most 66 bytes.
        extra_data: the verifier's data to sign, at most 66 bytes; empty if there is none.
        clock: time of the quote, and the firmware version.
        selections: the PCRs, in the order in which their values are hashed; no bank twice.
        pcr_digest: over the values, with the signature's hash, at most 64 bytes.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    selections: tuple[Selection, ...]
    pcr_digest: bytes

    def encode(self) -> bytes:
        """Write the quote."""
        out = [
            GENERATED.to_bytes(4, "big"),
            QUOTE.to_bytes(2, "big"),
            encode_sized(self.qualified_signer),
            encode_sized(self.extra_data),
            self.clock.encode(),
            len(self.selections).to_bytes(4, "big"),
        ]
        for selection in self.selections:
            out += [selection.bank.to_bytes(2, "big"), bytes([len(selection.bitmap)]), selection.bitmap]
        return b"".join([*out, encode_sized(self.pcr_digest)])


def parse(data: bytes) -> Quote:
    """Parse one quote; no bytes may follow it.

    Args:
        data: at most 1 KiB.

    Raises:
        UnsupportedError: another kind of attestation, or an unknown hash.
        FormatError: not made by a TPM (code ``bad_magic``), or malformed.
    """
    r, begun = begin(data, WHAT, QUOTE)
    if begun.clock.safe > 1:
        at = r.position - _CLOCK_SIZE + 16
        raise FormatError(f"{WHAT}.safe at {at:#x}: want 0 or 1, got {begun.clock.safe}", code="bad_encoding")
    count = r.u32("selections")
    if count > MAX_BANKS:
        raise FormatError(f"{WHAT}: selects {count} banks, must be at most {MAX_BANKS}", code="too_large")
    selections = tuple(_selection(r) for _ in range(count))
    banks = [selection.bank for selection in selections]
    if len(set(banks)) != len(banks):
        raise FormatError(f"{WHAT}: a bank is selected twice", code="duplicate_key")
    digest = read_sized(r, "pcr_digest", 64)
    r.end()
    return Quote(**begun._asdict(), selections=selections, pcr_digest=digest)


class Begun(NamedTuple):
    """The common header of a TPM's attestations; see :class:`Quote`."""

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock


def begin(data: bytes, what: str, kind: int) -> tuple[Reader, Begun]:
    """Parse the common header of an attestation.

    Args:
        data: at most 1 KiB.
        what: for messages.
        kind: the required type.

    Returns:
        The header, and a reader positioned at the part that depends on the type.

    Raises:
        UnsupportedError: another kind.
        FormatError: not made by a TPM (code ``bad_magic``), or malformed.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, what, byte_order="big")
    magic = r.u32("magic")
    # A restricted key does not sign external data that starts with this value, so it shows that the TPM wrote
    # the data.
    if magic != GENERATED:
        raise FormatError(f"{what}.magic at 0x0: want {GENERATED:#x}, got {magic:#x}", code="bad_magic")
    number = r.u16("type")
    if number != kind:
        raise UnsupportedError(f"{what}.type at 0x4: want {kind:#x}, got {number:#x}", code="bad_type")
    signer, extra = read_sized(r, "qualified_signer", 66), read_sized(r, "extra_data", 66)
    clock = Clock.parse(r.take(_CLOCK_SIZE, "clock"), base=r.position - _CLOCK_SIZE)
    return r, Begun(signer, extra, clock)


def _selection(r: Reader) -> Selection:
    bank = hash_id(r.u16("bank"), f"{WHAT}.bank")
    size = r.u8("select_size")
    if not 1 <= size <= MAX_SELECT:
        raise FormatError(f"{WHAT}.select_size: want 1..{MAX_SELECT}, got {size}", code="bad_length")
    return Selection(bank, r.take(size, "bitmap"))


def read_sized(r: Reader, field: str, most: int) -> bytes:
    """Read a TPM2B of at most ``most`` bytes: a size of 2 bytes, big-endian, then that many bytes.

    Raises:
        FormatError: it is longer, or cut short.
    """
    size = r.u16(f"{field} size")
    if size > most:
        raise FormatError(f"{r.what}.{field}: is {size} bytes, must be at most {most}", code="bad_length")
    return r.take(size, field)


def encode_sized(data: bytes) -> bytes:
    """Write a TPM2B."""
    return len(data).to_bytes(2, "big") + data
