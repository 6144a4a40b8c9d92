"""Event logs: records and back, in both forms, and every way in which one is not a log."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.eventlog import log as event_log
from kluis.formats.eventlog.event_type import EventType, name_of
from kluis.formats.eventlog.log import MAX_EVENTS, MAX_SIZE, SPEC_ID_SHA1, Event, EventLog
from kluis.formats.tpm.algorithm import HashId
from tests.formats.eventlog.logs import declaration, event, log, no_action, sha1_log
from tests.pace import within
from tests.strategies import PROPERTY, mutations
from tests.vectors import MISSING, Vector, found

ACTION = event(4, EventType.EFI_ACTION, b"Calling EFI Application from Boot Option")
GOOD = log(ACTION, event(4, EventType.SEPARATOR, bytes(4)), no_action(0xFFFFFFFF, b"note"))
DATA = GOOD.encode()
OLD = sha1_log(event(4, EventType.SEPARATOR, bytes(4), banks=(HashId.SHA1,)))
REAL = [
    vector
    for tee in ("eventlog", "tpm")
    for vector in found(tee)
    if "event_log" in vector and "json" not in vector.meta["files"]["event_log"]["file"]
]


def _same(parsed: EventLog, made: EventLog) -> bool:
    kept = [(e.index, e.kind, e.digests, e.data) for e in parsed.events]
    return kept == [(e.index, e.kind, e.digests, e.data) for e in made.events]


@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff" * 3, bytes(64), b"\xff" * 4096])
def test_fields(padding: bytes) -> None:
    """Records come back, each with the place where it begins; padding of one byte repeated is kept."""
    parsed = event_log.parse(DATA + padding)
    assert _same(parsed, GOOD)
    assert (parsed.agile, parsed.padding, parsed.algorithms) == (True, padding, ((4, 20), (11, 32)))
    assert parsed.encode() == DATA + padding
    assert DATA[parsed.events[1].offset :].startswith(b"\x04\0\0\0\x07\0\0\x80")
    assert parsed.events[1].digest(HashId.SHA256) == ACTION.digests[1][1]
    assert parsed.events[1].digest(HashId.SHA512) is None
    assert [e.extends for e in parsed.events] == [False, True, True, False]


def test_older_form() -> None:
    """A log with only SHA-1 has no declaration, or one that lists only SHA-1."""
    parsed = event_log.parse(OLD.encode())
    assert _same(parsed, OLD)
    assert not parsed.agile
    said = sha1_log(declaration(signature=SPEC_ID_SHA1), *OLD.events)
    assert not event_log.parse(said.encode()).agile


def test_only_the_first_record_declares() -> None:
    """A declaration is known by its signature, and by being first; later ones are notes."""
    later = log(no_action(0, declaration((HashId.SHA512,)).data), ACTION)
    assert event_log.parse(later.encode()).algorithms == ((4, 20), (11, 32))
    old = sha1_log(no_action(0, b"Spec", banks=(HashId.SHA1,)), *OLD.events)
    assert not event_log.parse(old.encode()).agile


@pytest.mark.skipif(not REAL, reason=MISSING)
@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.name)
def test_real(vector: Vector) -> None:
    """Real logs have the recorded records, end where recorded, and are written as the same bytes."""
    data = vector.part("event_log")
    if vector.outcome == "invalid" and "digest" in vector.expected["why"] and "log" in vector.meta["what"]:
        with pytest.raises(FormatError):
            event_log.parse(data)
        return
    parsed = event_log.parse(data)
    assert parsed.encode() == data
    if "events" in vector.known:
        assert len(parsed.events) == vector.known["events"]
        assert {f"{a:#x}": size for a, size in parsed.algorithms} == vector.known["algorithms"]
        assert len(data) - len(parsed.padding) == vector.known["end_offset"]


AGILE_HEAD = len(declaration().data) + 32


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"", "needs 4 bytes, 0 left", "truncated"),
        (bytes(64), "holds no record", "truncated"),
        (b"\xff" * 64, "holds no record", "truncated"),
        (DATA[:-1], "needs 4 bytes, 3 left", "truncated"),
        (DATA + bytes(40) + b"\x01", "padding of 41 bytes is not all alike", "trailing_data"),
        (DATA + b"\xff" * 40 + b"\x01", "padding of 41 bytes is not all alike", "trailing_data"),
        (DATA + b"\x01", "needs 4 bytes, 1 left", "truncated"),
        (
            declaration(signature=b"Spec ID Event02\0") and log().encode().replace(b"t03\0", b"t02\0"),
            "want b'Spec",
            "bad_version",
        ),
        (EventLog((), True, (declaration(()),), b"").encode(), "want 1..8 hashes, got 0", "too_large"),
        (
            EventLog((), True, (declaration(range(100, 109)),), b"").encode(),
            "1..8 hashes, got 9",
            "too_large",
        ),
        (
            EventLog((), True, (declaration((4, 4)),), b"").encode(),
            "hash 0x0004 appears twice",
            "duplicate_key",
        ),
        (
            DATA.replace(b"\x0b\x00\x20\x00", b"\x0b\x00\x21\x00"),
            "hash 0x000b has digests of 33",
            "bad_length",
        ),
        (
            DATA.replace(b"\x0b\x00\x20\x00", b"\x99\x00\x00\x00"),
            "hash 0x0099 has digests of 0",
            "bad_length",
        ),
        (
            log(Event(4, 4, ((11, bytes(32)), (11, bytes(32))), b"", 0)).encode(),
            "appears twice",
            "duplicate_key",
        ),
        (log(Event(4, 4, ((12, bytes(48)),), b"", 0)).encode(), "hash 0x000c is not declared", "bad_type"),
        (log(Event(4, 4, ((4, b"1" * 20),) * 3, b"", 0)).encode(), "3 digests, 2 hashes", "bad_length"),
        (log(Event(4, 4, (), b"", 0)).encode(), "want a register 0..23 and a digest", "bad_encoding"),
        (log(event(24, 4, b"")).encode(), "want a register 0..23 and a digest, got 0x18", "bad_encoding"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """A bad record is an error at its position, and never the quiet end of a log."""
    with pytest.raises(FormatError, match=message) as caught:
        event_log.parse(data)
    assert caught.value.code == code


def test_later_declarations_are_unsupported() -> None:
    """A declaration of another version is of a log that is read otherwise."""
    with pytest.raises(UnsupportedError):
        event_log.parse(DATA.replace(b"Spec ID Event03", b"Spec ID Event04"))


def test_unknown_hashes_are_carried() -> None:
    """A hash that is not known may be declared, of any size: its digests are kept, and replayed by nobody."""
    made = EventLog(((4, 20), (0x99, 32)), True, (declaration((4, 0x99)),), b"")
    assert event_log.parse(made.encode()).algorithms == ((4, 20), (0x99, 32))


@pytest.mark.parametrize(
    "data",
    [
        bytes(64 << 20),
        DATA + bytes(64 << 20),
        DATA + ACTION.data.join([b"x"] * (1 << 20)),
        OLD.encode() * ((64 << 20) // len(OLD.encode())),
    ],
)
def test_64_mib_are_refused_at_once(data: bytes) -> None:
    """A log of 64 MiB costs nothing."""
    with within(1), pytest.raises(FormatError, match="must be at most 4194304"):
        event_log.parse(data)


def test_the_most_records_take_less_than_a_second() -> None:
    """The dearest log that is small enough is read, or refused, within a second."""
    one = event(4, EventType.SEPARATOR, bytes(4))
    with within(2):
        with pytest.raises(FormatError, match=f"more than {MAX_EVENTS} records"):
            event_log.parse(log(*[one] * MAX_EVENTS).encode())
        shortest = sha1_log(*[event(0, 1, b"", banks=(HashId.SHA1,))] * (MAX_EVENTS + 1))
        assert len(shortest.encode()) < MAX_SIZE
        with pytest.raises(FormatError, match="more than"):
            event_log.parse(shortest.encode())


def test_names() -> None:
    """Types are called as their specification does, and unknown ones by their number."""
    assert name_of(0x80000007) == "EV_EFI_ACTION"
    assert name_of(0x42) == "0x00000042"


@PROPERTY
@given(mutations(DATA, OLD.encode(), DATA + b"\xff" * 64))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = event_log.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data
