"""Replay event logs: compute the values that registers hold if the log is true.

Spec: TCG "PC Client Platform Firmware Profile", "PCR Usage", "StartupLocality"; Intel "TDX Virtual
Firmware Design Guide", "Measurement register index" (CCEL: index 1 to 4 is RTMR0 to RTMR3).
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.eventlog.event_data import startup_locality
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import WHAT, Event, EventLog
from kluis.formats.tpm.algorithm import SIZES, HashId

# Only a dynamic launch can extend these; it sets them to zero first. Otherwise they are all ones.
DYNAMIC: Final = range(17, 23)
_HASHABLE: Final = (HashId.SHA1, HashId.SHA256, HashId.SHA384, HashId.SHA512)
_HCRTM_LOCALITY: Final = 4


class Registers(enum.Enum):
    """The kind of registers of a log."""

    PCR = "pcr"
    RTMR = "rtmr"


def replay(log: EventLog, bank: HashId, registers: Registers) -> Mapping[int, bytes]:
    """Extend every register that the log extends.

    Args:
        log: as parsed; of any origin.
        bank: the hash; RTMRs have only SHA-384.
        registers: PCRs 0 to 23, or RTMRs 0 to 3.

    Returns:
        By number, the value that each register holds after the log's last record for it.

    Raises:
        UnsupportedError: the log has no such bank, or its hash is not supported.
        FormatError: a record has no digest for the bank, a register that does not exist, or a TPM that
            started twice.
    """
    if bank not in _HASHABLE or bank not in dict(log.algorithms):
        raise UnsupportedError(
            f"{WHAT}: want digests of {bank.label}, got those of "
            f"{[f'{algorithm:#06x}' for algorithm, _ in log.algorithms]}",
            code="event_log",
        )
    hashed = getattr(hashlib, bank.label)
    values: dict[int, bytes] = {}
    zero = bytes(SIZES[bank])
    start = _first_value(log, bank) if registers is Registers.PCR else zero
    for event in log.events:
        if not event.extends:
            continue
        number = register_of(event, registers)
        if number is None:
            continue
        digest = event.digest(bank)
        if digest is None:
            raise FormatError(f"{WHAT} at {event.offset:#x}: has no digest of {bank.label}", code="event_log")
        value = values.get(number)
        if value is None:
            value = start if number == 0 else zero
        values[number] = hashed(value + digest).digest()
    return values


def fold(digests: Iterable[bytes], bank: HashId, start: bytes | None = None) -> bytes:
    """Extend one register by digests in order; they may come from a log of any format.

    Args:
        digests: each as long as the bank's hash.
        bank: the hash; SHA-384 for RTMRs.
        start: the initial value; None means zeros.

    Raises:
        UnsupportedError: the bank's hash is not supported.
        FormatError: a digest, or ``start``, is not as long as the bank's hash.
    """
    if bank not in _HASHABLE:
        raise UnsupportedError(f"{WHAT}: {bank.label} is not handled", code="event_log")
    value = bytes(bank.size) if start is None else start
    for data in (value, *(extended := tuple(digests))):
        if len(data) != bank.size:
            raise FormatError(f"{WHAT}: want {bank.size} bytes, got {len(data)}", code="bad_length")
    for digest in extended:
        value = hashlib.new(bank.label, value + digest).digest()
    return value


def register_of(event: Event, registers: Registers) -> int | None:
    """The register that an event extends; None for MRTD, which a CCEL names but nothing extends.

    Raises:
        FormatError: a CCEL names a register that does not exist.
    """
    if registers is Registers.PCR:
        return event.index
    if event.index > 4:
        raise FormatError(
            f"{WHAT} at {event.offset:#x}: want a measurement register 0..4, got {event.index}",
            code="bad_encoding",
        )
    return event.index - 1 if event.index else None


def is_untouched(number: int, value: bytes, registers: Registers) -> bool:
    """Whether a register still has its initial value."""
    if registers is Registers.PCR and number in DYNAMIC:
        return value == b"\xff" * len(value)
    return not any(value)


def _first_value(log: EventLog, bank: HashId) -> bytes:
    """The initial value of PCR 0: zero, or the locality that started the TPM in its last byte."""
    stated: int | None = None
    begun = False
    for event in log.events:
        if event.kind == EventType.NO_ACTION:
            locality = startup_locality(event.data)
            if locality is None:
                continue
            if stated is not None or begun:
                raise FormatError(
                    f"{WHAT} at {event.offset:#x}: the TPM starts once, before PCR 0 is extended",
                    code="event_log",
                )
            stated = locality
        elif event.index == 0:
            if event.kind == EventType.EFI_HCRTM_EVENT and not begun and stated is None:
                stated = _HCRTM_LOCALITY
            begun = True
    return bytes(SIZES[bank] - 1) + bytes([stated or 0])
