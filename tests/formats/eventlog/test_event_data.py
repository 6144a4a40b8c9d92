"""Event data by type: fields and back; and which bytes a digest is over."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.eventlog import log as event_log
from kluis.formats.eventlog.event_data import (
    GLOBAL_VARIABLES,
    STARTUP_LOCALITY,
    Tagged,
    Variable,
    parse_tagged,
    parse_variable,
    startup_locality,
)
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.preimage import preimages
from tests.formats.eventlog.logs import event
from tests.strategies import PROPERTY, mutations
from tests.vectors import MISSING, Vector, found

SECURE_BOOT = Variable(GLOBAL_VARIABLES, "SecureBoot", b"\x01")
COMMAND = Tagged(0x8F3B22ED, "root=/dev/vda".encode("utf-16-le"))
REAL = [v for v in found("eventlog") if "bin" in v.meta["files"]["event_log"]["file"]]


def test_fields() -> None:
    """Variables, tags and localities come back."""
    assert parse_variable(SECURE_BOOT.encode()) == SECURE_BOOT
    assert parse_tagged(COMMAND.encode()) == COMMAND
    assert [startup_locality(STARTUP_LOCALITY + bytes([n])) for n in (0, 3, 4)] == [0, 3, 4]
    assert startup_locality(b"anything else") is None


HUGE = SECURE_BOOT.encode()[:16] + b"\xff" * 16


@pytest.mark.parametrize(
    ("read", "data", "message"),
    [
        (parse_variable, HUGE, "name at 0x20: needs 36893488147419103230 bytes, 0 left"),
        (parse_variable, SECURE_BOOT.encode() + b"\0", "1 bytes after the end"),
        (parse_variable, Variable(GLOBAL_VARIABLES, "A", b"").encode()[:-2] + b"\x00\xd8", "is not UTF-16"),
        (parse_tagged, COMMAND.encode()[:-1], "bytes, 25 left"),
        (startup_locality, STARTUP_LOCALITY + b"\x01", "want 0, 3 or 4, got 1"),
        (startup_locality, STARTUP_LOCALITY + b"\0\0", "1 bytes after the end"),
    ],
)
def test_refused(read: object, data: bytes, message: str) -> None:
    """Lengths are held against what is there before anything is multiplied, read or allocated."""
    with pytest.raises(FormatError, match=message):
        read(data)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "data", "over"),
    [
        (EventType.SEPARATOR, bytes(4), bytes(4)),
        (EventType.EFI_ACTION, b"Exit Boot Services Invocation", b"Exit Boot Services Invocation"),
        (EventType.EFI_VARIABLE_DRIVER_CONFIG, SECURE_BOOT.encode(), SECURE_BOOT.encode()),
        (EventType.EFI_VARIABLE_BOOT, SECURE_BOOT.encode(), b"\x01"),
        (EventType.EFI_VARIABLE_BOOT, b"no variable", b"no variable"),
        (EventType.EFI_VARIABLE_AUTHORITY, SECURE_BOOT.encode(), b"\x01"),
        (EventType.IPL, b"grub_cmd: set a=b: c\0", b"set a=b: c"),
        (EventType.IPL, b"plain\0", b"plain"),
        (EventType.EVENT_TAG, COMMAND.encode(), COMMAND.value),
        (EventType.EVENT_TAG, b"no tag", b"no tag"),
    ],
)
def test_digests_over_data(kind: int, data: bytes, over: bytes) -> None:
    """Where the data say what was hashed, the bytes are among those tried."""
    assert over in preimages(event(0, kind, data))


@pytest.mark.parametrize("kind", [EventType.EFI_BOOT_SERVICES_APPLICATION, EventType.POST_CODE, 0x42])
def test_digests_over_what_is_elsewhere(kind: int) -> None:
    """A program's digest is never recomputed from the event that names it."""
    assert preimages(event(0, kind, b"data")) == ()


@pytest.mark.skipif(not REAL, reason=MISSING)
@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.name)
def test_real(vector: Vector) -> None:
    """In real logs every driver's variable, separator, action and table has a digest over its data."""
    certain = (
        EventType.SEPARATOR,
        EventType.EFI_ACTION,
        EventType.EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EFI_VARIABLE_BOOT,
        EventType.EFI_GPT_EVENT,
    )
    for each in event_log.parse(vector.part("event_log")).events:
        if each.kind in certain:
            bank, digest = each.digests[-1]
            name = {4: "sha1", 11: "sha256", 12: "sha384"}[bank]
            assert digest in [hashlib.new(name, data).digest() for data in preimages(each)]
        if each.kind == EventType.EFI_VARIABLE_DRIVER_CONFIG:
            assert parse_variable(each.data).encode() == each.data


@PROPERTY
@given(mutations(SECURE_BOOT.encode(), COMMAND.encode()))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    for read in (parse_variable, parse_tagged):
        try:
            parsed = read(data)
        except FormatError:
            continue
        assert parsed.encode() == data  # type: ignore[attr-defined]
