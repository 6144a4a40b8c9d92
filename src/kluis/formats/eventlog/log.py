"""Parse TCG event logs and write them back. Nothing here is verified.

There are two forms. In the crypto-agile log the first record declares the hashes of all others; it holds the
PCRs of a TPM 2.0, or is the CCEL of a confidential VM, where an index is a measurement register. The older
form has only SHA-1. Little-endian.

Spec: TCG "PC Client Platform Firmware Profile", "Event Logging", "TCG_EfiSpecIDEvent"; ACPI 6.5, "CC Event
Log ACPI Table".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.reader import Reader
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.tpm.algorithm import SIZES, HashId
from kluis.frozen import frozen

WHAT: Final = "event log"
MAX_SIZE: Final = 4 << 20
MAX_EVENTS: Final = 16 * 1024
MAX_ALGORITHMS: Final = 8
MAX_INDEX: Final = 23
MAX_DIGEST: Final = 64
SPEC_ID: Final = b"Spec ID Event03\0"
SPEC_ID_SHA1: Final = b"Spec ID Event00\0"
_SPEC_ID_PREFIX: Final = b"Spec ID Event"
_SHA1_RECORD: Final = 32
_AGILE_HEAD: Final = 12
_ONES: Final = b"\xff" * 8


@frozen
class Event:
    """One record.

    Attributes:
        index: of the PCR or measurement register, 0..23; 0xffffffff for records that extend nothing.
        kind: the claimed type; no digest covers it.
        digests: that were extended, by the bank's hash, in the log's order.
        data: the claimed subject. No register proves it, unless the digest is computed over it.
        offset: of the record in the log.
    """

    index: int
    kind: int
    digests: tuple[tuple[int, bytes], ...]
    data: bytes
    offset: int

    @property
    def extends(self) -> bool:
        """Whether the event was extended into its register."""
        return self.kind != EventType.NO_ACTION

    def digest(self, algorithm: int) -> bytes | None:
        """The digest extended into the bank of ``algorithm``, or None."""
        for own, value in self.digests:
            if own == algorithm:
                return value
        return None


@frozen
class EventLog:
    """A parsed log.

    Attributes:
        algorithms: each hash and its digest size in bytes, as the first record declares them; only SHA-1 in
            the older form.
        agile: whether it is the crypto-agile form, whose first event is the declaration.
        events: in order.
        padding: the bytes after the last record: none, or one byte value repeated.
    """

    algorithms: tuple[tuple[int, int], ...]
    agile: bool
    events: tuple[Event, ...]
    padding: bytes

    def encode(self) -> bytes:
        """Write the log."""
        out: list[bytes] = []
        for number, event in enumerate(self.events):
            out.append(event.index.to_bytes(4, "little") + event.kind.to_bytes(4, "little"))
            if self.agile and number:
                out.append(len(event.digests).to_bytes(4, "little"))
                out += [algorithm.to_bytes(2, "little") + value for algorithm, value in event.digests]
            else:
                out.append(event.digests[0][1])
            out += [len(event.data).to_bytes(4, "little"), event.data]
        return b"".join([*out, self.padding])


def parse(data: bytes) -> EventLog:
    """Parse one log; only zeros or 0xff may follow its last record.

    Args:
        data: at most 4 MiB and 16384 records.

    Raises:
        UnsupportedError: a declaration of another version.
        FormatError: a record that is cut short, a digest whose hash is undeclared or repeated, a register
            that does not exist, or a limit exceeded.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT)
    if data and _is_padding(data, 0, _SHA1_RECORD):
        raise FormatError(f"{WHAT}: holds no record", code="truncated")
    first = _sha1_event(r)
    agile = first.kind == EventType.NO_ACTION and first.data.startswith(_SPEC_ID_PREFIX)
    agile = agile and not first.data.startswith(SPEC_ID_SHA1)
    algorithms = _parse_declaration(first.data) if agile else ((int(HashId.SHA1), SIZES[HashId.SHA1]),)
    sizes = dict(algorithms)
    least = _AGILE_HEAD if agile else _SHA1_RECORD
    events = [first]
    while r.left and not _is_padding(data, r.position, least):
        if len(events) == MAX_EVENTS:
            raise FormatError(f"{WHAT}: more than {MAX_EVENTS} records", code="too_large")
        events.append(_agile_event(r, sizes) if agile else _sha1_event(r))
    return EventLog(algorithms, agile, tuple(events), r.take(r.left, "padding"))


def join(logs: Sequence[EventLog]) -> EventLog:
    """Join logs of one boot, in the order of their measurements.

    Raises:
        FormatError: no log is given, or they declare different hashes.
    """
    if not logs:
        raise FormatError(f"{WHAT}: want at least one, got none", code="event_log")
    first = logs[0]
    if any((each.agile, each.algorithms) != (first.agile, first.algorithms) for each in logs):
        raise FormatError(f"{WHAT}: want logs that declare the same hashes, got others", code="event_log")
    events = tuple(event for each in logs for event in each.events)
    return dataclasses.replace(first, events=events, padding=b"")


def _is_padding(data: bytes, position: int, least: int) -> bool:
    """Whether only padding remains at ``position``; ``least`` zero bytes are never a record.

    Raises:
        FormatError: padding begins, and other bytes follow it.
    """
    left = len(data) - position
    short = left < least
    if not short and data[position : position + 8] != _ONES and any(data[position : position + least]):
        return False
    if data.count(data[position : position + 1], position) == left and data[position] in (0, 0xFF):
        return True
    if short:
        return False
    raise FormatError(
        f"{WHAT} at {position:#x}: padding of {left} bytes is not all alike", code="trailing_data"
    )


def _parse_declaration(data: bytes) -> tuple[tuple[int, int], ...]:
    """Parse the declaration, TCG_EfiSpecIDEvent: each hash and its digest size."""
    r = Reader(data, f"{WHAT}.declaration", 32)
    if r.take(len(SPEC_ID), "signature") != SPEC_ID:
        raise UnsupportedError(
            f"{WHAT}.declaration: want {SPEC_ID!a}, got {data[: len(SPEC_ID)]!a}", code="bad_version"
        )
    r.take(8, "class and version")
    count = r.u32("algorithms")
    if not 1 <= count <= MAX_ALGORITHMS:
        raise FormatError(f"{r.what}: want 1..{MAX_ALGORITHMS} hashes, got {count}", code="too_large")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, size = r.u16("algorithm"), r.u16("digest size")
        if algorithm in sizes:
            raise FormatError(f"{r.what}: hash {algorithm:#06x} appears twice", code="duplicate_key")
        if size != SIZES.get(algorithm, size) or not 1 <= size <= MAX_DIGEST:
            raise FormatError(
                f"{r.what}: hash {algorithm:#06x} has digests of {size} bytes", code="bad_length"
            )
        sizes[algorithm] = size
    r.take(r.u8("vendor size"), "vendor")
    r.end()
    return tuple(sizes.items())


def _sha1_event(r: Reader) -> Event:
    offset = r.position
    index, kind = r.u32("index"), r.u32("type")
    digest = r.take(SIZES[HashId.SHA1], "digest")
    data = r.take(r.u32("data size"), "data")
    return _check_event(Event(index, kind, ((int(HashId.SHA1), digest),), data, offset))


def _agile_event(r: Reader, sizes: dict[int, int]) -> Event:
    offset = r.position
    index, kind, count = r.u32("index"), r.u32("type"), r.u32("digests")
    if count > len(sizes):
        raise FormatError(
            f"{WHAT} at {offset:#x}: {count} digests, {len(sizes)} hashes are declared", code="bad_length"
        )
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = r.u16("algorithm")
        if algorithm not in sizes:
            raise FormatError(
                f"{WHAT} at {offset:#x}: hash {algorithm:#06x} is not declared", code="bad_type"
            )
        if algorithm in digests:
            raise FormatError(
                f"{WHAT} at {offset:#x}: hash {algorithm:#06x} appears twice", code="duplicate_key"
            )
        digests[algorithm] = r.take(sizes[algorithm], "digest")
    data = r.take(r.u32("data size"), "data")
    return _check_event(Event(index, kind, tuple(digests.items()), data, offset))


def _check_event(event: Event) -> Event:
    if event.extends and (event.index > MAX_INDEX or not event.digests):
        raise FormatError(
            f"{WHAT} at {event.offset:#x}: want a register 0..{MAX_INDEX} and a digest, "
            f"got {event.index:#x} and {len(event.digests)}",
            code="bad_encoding",
        )
    return event
