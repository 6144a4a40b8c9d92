"""Parse the PCR values that accompany a quote, in the encodings that tools write. Nothing here is verified.

A quote signs only a digest over the values, so each transport has its own encoding of them: JSON by bank and
index, or the structure that ``tpm2 quote --pcrs`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.algorithm import LABELS, SIZES, HashId, hash_id
from kluis.formats.tpm.attest import MAX_BANKS, MAX_SELECT, Selection

Values: TypeAlias = Mapping[HashId, Mapping[int, bytes]]

WHAT: Final = "PCR values"
PCR_COUNT: Final = 24
MAX_SIZE: Final = 64 * 1024
_INDICES: Final = {str(index): index for index in range(PCR_COUNT)}
_BANKS: Final = {name: bank for bank in HashId for name in (bank.label, f"{bank:#x}")}
_BY_SIZE: Final = {20: HashId.SHA1, 32: HashId.SHA256, 48: HashId.SHA384, 64: HashId.SHA512}
_LIST: Final = 8
_SLOT: Final = 64
_MAX_LISTS: Final = MAX_BANKS * PCR_COUNT // _LIST


def parse(data: bytes) -> Values:
    """Parse PCR values: JSON if the first byte is a brace, else the output of ``tpm2 quote --pcrs``.

    Args:
        data: at most 64 KiB.

    Raises:
        FormatError: malformed, an index above 23, or a value that does not have its bank's hash size.
    """
    return parse_json(data) if data[:1] == b"{" else parse_tools(data)


def parse_json(data: bytes) -> Values:
    """Parse ``{"sha256": {"0": "<hex>", ...}, ...}``; a bank may be named ``"0xb"``.

    A single bank may be given without its name: then the length of the values identifies it.

    Raises:
        FormatError: as for ``parse``.
    """
    entries = Members(jcs.loads(data, WHAT, max_size=MAX_SIZE, max_depth=3), WHAT).entries(most=PCR_COUNT)
    first = next(iter(entries.values()), None)
    if isinstance(first, str):
        bank = _BY_SIZE.get(len(first) // 2)
        if bank is None:
            raise FormatError(f"{WHAT}: {len(first) // 2} bytes are no bank's", code="bad_length")
        return {bank: _bank_of(entries, bank)}
    values: dict[HashId, dict[int, bytes]] = {}
    for name, entry in entries.items():
        bank = _BANKS.get(name)
        if bank is None:
            raise FormatError(f"{WHAT}: want banks {sorted(LABELS)}, got {name[:32]!a}", code="bad_type")
        if bank in values:
            raise FormatError(f"{WHAT}: bank {bank.label} appears twice", code="duplicate_key")
        values[bank] = _bank_of(Members(entry, f"{WHAT}.{name}").entries(most=PCR_COUNT), bank)
    return values


def dumps(values: Values) -> bytes:
    """Write values as JSON, in one canonical form."""
    return jcs.dumps(
        {
            bank.label: {str(i): value.hex() for i, value in registers.items()}
            for bank, registers in values.items()
        }
    )


def parse_tools(data: bytes) -> Values:
    """Parse the output of ``tpm2 quote --pcrs``: a TPML_PCR_SELECTION, then lists of 8 digests,
    little-endian.

    The selection has 16 slots of 8 bytes, a list 8 slots of 66; slots beyond the count are zero.

    Spec: tpm2-tools, "tpm2_quote", ``--pcrs_format=serialized``.

    Raises:
        FormatError: as for ``parse``.
    """
    r = Reader(data, WHAT)
    count = r.u32("selections")
    if count > MAX_BANKS:
        raise FormatError(f"{WHAT}: selects {count} banks, must be at most {MAX_BANKS}", code="too_large")
    wanted: list[tuple[HashId, int]] = []
    for _ in range(count):
        bank, size = hash_id(r.u16("bank"), f"{WHAT}.bank"), r.u8("select_size")
        bitmap = r.take(MAX_SELECT, "bitmap")
        r.zeros(1, "reserved")
        if size > MAX_SELECT or any(bitmap[size:]):
            raise FormatError(f"{WHAT}.select_size: want 0..{MAX_SELECT}, got {size}", code="bad_length")
        wanted += [(bank, index) for index in Selection(bank, bitmap).indices]
    r.zeros(8 * (MAX_BANKS - count), "reserved")
    digests: list[bytes] = []
    lists = r.u32("lists")
    if lists > _MAX_LISTS:
        raise FormatError(f"{WHAT}: {lists} lists, must be at most {_MAX_LISTS}", code="too_large")
    for _ in range(lists):
        digests += _list(r)
    r.end()
    if len(digests) != len(wanted):
        raise FormatError(f"{WHAT}: want {len(wanted)} values, got {len(digests)}", code="bad_length")
    values: dict[HashId, dict[int, bytes]] = {}
    for (bank, index), digest in zip(wanted, digests, strict=True):
        if index in values.setdefault(bank, {}):
            raise FormatError(f"{WHAT}: PCR {index} of {bank.label} appears twice", code="duplicate_key")
        values[bank][index] = _value(digest, bank, index)
    return values


def _list(r: Reader) -> list[bytes]:
    count = r.u32("digests")
    if count > _LIST:
        raise FormatError(f"{WHAT}: a list of {count} digests, must be at most {_LIST}", code="too_large")
    digests = []
    for slot in range(_LIST):
        size = r.u16("digest size")
        if size > _SLOT or (slot >= count and size):
            raise FormatError(f"{WHAT}: a digest of {size} bytes is in slot {slot}", code="bad_length")
        value = r.take(size, "digest")
        r.zeros(_SLOT - size, "reserved")
        if slot < count:
            digests.append(value)
    return digests


def _bank_of(entries: dict[str, jcs.Json], bank: HashId) -> dict[int, bytes]:
    registers = {}
    size = SIZES[bank]
    for name, text in entries.items():
        index = _INDICES.get(name)
        if index is None:
            raise FormatError(
                f"{WHAT}.{bank.label}: want indices 0..{PCR_COUNT - 1}, got {name[:32]!a}",
                code="bad_encoding",
            )
        try:
            value = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            value = b""
        # A hexadecimal reader skips spaces: then the text is longer than twice its bytes.
        if len(value) != size or not isinstance(text, str) or len(text) != 2 * size:
            raise FormatError(f"{WHAT}.{bank.label}.{index}: want {size} bytes of hex", code="bad_length")
        registers[index] = value
    return registers


def _value(value: bytes, bank: HashId, index: int) -> bytes:
    what = f"{WHAT}.{bank.label}.{index}"
    if index >= PCR_COUNT:
        raise FormatError(f"{what}: want indices 0..{PCR_COUNT - 1}", code="bad_encoding")
    if len(value) != SIZES[bank]:
        raise FormatError(f"{what}: want {SIZES[bank]} bytes, got {len(value)}", code="bad_length")
    return value
