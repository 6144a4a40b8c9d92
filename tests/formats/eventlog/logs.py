"""Event logs made by hand, and PCRs extended as a TPM would."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import SPEC_ID, Event, EventLog
from kluis.formats.tpm.algorithm import SIZES, HashId

BANKS = (HashId.SHA1, HashId.SHA256)


def declaration(banks: Iterable[int] = BANKS, signature: bytes = SPEC_ID) -> Event:
    """The first record of a crypto-agile log."""
    listed = [(bank, SIZES.get(bank, 32)) for bank in banks]
    body = signature + bytes(4) + b"\0\x02\0\x02" + len(listed).to_bytes(4, "little")
    body += b"".join(bank.to_bytes(2, "little") + size.to_bytes(2, "little") for bank, size in listed) + b"\0"
    return Event(0, EventType.NO_ACTION, ((HashId.SHA1, bytes(20)),), body, 0)


def event(
    index: int, kind: int, data: bytes, over: bytes | None = None, banks: Iterable[HashId] = BANKS
) -> Event:
    """A record whose digests are over ``over``, or over its data."""
    hashed = data if over is None else over
    digests = tuple((int(bank), hashlib.new(bank.label, hashed).digest()) for bank in banks)
    return Event(index, kind, digests, data, 0)


def log(*events: Event, banks: Iterable[HashId] = BANKS, padding: bytes = b"") -> EventLog:
    """A crypto-agile log of a declaration and these records."""
    sizes = tuple((int(bank), SIZES[bank]) for bank in banks)
    return EventLog(sizes, True, (declaration(banks), *events), padding)


def sha1_log(*events: Event) -> EventLog:
    """A log of the older form."""
    return EventLog(((int(HashId.SHA1), 20),), False, events, b"")


def no_action(index: int, data: bytes, banks: Iterable[HashId] = BANKS) -> Event:
    """A record that extends nothing."""
    digests = tuple((int(bank), bytes(SIZES[bank])) for bank in banks)
    return Event(index, EventType.NO_ACTION, digests, data, 0)
