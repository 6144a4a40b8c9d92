"""A machine's operator controls its log and the types in it, and may extend every register once it runs."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import cast

import pytest

from kluis.evidence.eventlog.ima import Proven
from kluis.evidence.eventlog.judgement import LogClaims, judge
from kluis.evidence.eventlog.replay import Registers, replay
from kluis.evidence.tpm.quote import Checked
from kluis.formats.eventlog.event_data import GLOBAL_VARIABLES, Variable
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import Event
from kluis.formats.tpm.algorithm import HashId
from kluis.services.attestation.guest.boot import boot_of
from kluis.services.attestation.tpm.events import events
from kluis.services.attestation.tpm.evidence import Time
from tests.formats.eventlog.logs import event, log

ON, OFF = b"\1", b"\0"
# Of these the digest may be over something that the log does not hold.
ELSEWHERE = [
    EventType.EFI_BOOT_SERVICES_APPLICATION,
    EventType.IPL,
    EventType.EVENT_TAG,
    EventType.COMPACT_HASH,
]
BANKS = {Registers.PCR: (HashId.SHA256, 7), Registers.RTMR: (HashId.SHA384, 1)}


def _variable(name: str, value: bytes, index: int, bank: HashId) -> Event:
    data = Variable(GLOBAL_VARIABLES, name, value).encode()
    return event(index, EventType.EFI_VARIABLE_DRIVER_CONFIG, data, banks=(bank,))


def _boot(secure: bytes, key: bytes, index: int, bank: HashId) -> list[Event]:
    end = event(index, EventType.SEPARATOR, bytes(4), banks=(bank,))
    return [_variable("SecureBoot", secure, index, bank), _variable("PK", key, index, bank), end]


def _judged(made: list[Event], registers: Registers) -> LogClaims:
    """The log that the attacker hands in, held against what the registers truly have."""
    bank = BANKS[registers][0]
    given = log(*made, banks=(bank,))
    return judge(given, bank, registers, replay(given, bank, registers))


@pytest.mark.parametrize("registers", Registers)
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_boot_that_is_measured_after_the_boot(kind: EventType, registers: Registers) -> None:
    """A system started without secure boot measures a start with it, and renames what firmware measured."""
    bank, index = BANKS[registers]
    true = [dataclasses.replace(e, kind=kind, data=b"shim") for e in _boot(OFF, b"", index, bank)]
    judged = _judged([*true, *_boot(ON, b"an owner's", index, bank)], registers)

    assert judged.explained
    assert judged.secure_boot is None
    assert [each.after_separator for each in judged.events[1:]] == [False] * 3 + [True] * 3
    assert boot_of(judged).variables == {}


def test_policies_see_the_first_separator() -> None:
    """A policy about events before the separator sees the true separator, whatever its type."""
    bank, index = BANKS[Registers.PCR]
    true = [dataclasses.replace(e, kind=EventType.IPL, data=b"shim") for e in _boot(OFF, b"", index, bank)]
    judged = _judged([*true, *_boot(ON, b"an owner's", index, bank)], Registers.PCR)
    told = events(Time(cast("Checked", None), judged, Proven()))["Events"]

    assert [each["EventTypeString"] for each in told][1:4] == ["EV_IPL", "EV_IPL", "EV_SEPARATOR"]


@pytest.mark.parametrize("kind", [EventType.EFI_VARIABLE_BOOT, EventType.IPL, EventType.SEPARATOR])
@pytest.mark.parametrize("index", [0, 2, 3, 4, 5, 6, 7])
def test_firmware_that_failed_does_not_end_well(kind: EventType, index: int) -> None:
    """An error's separator is not undone by a later one where no boot variable is measured."""
    error = event(index, kind, b"\1\0\0\0")
    fine = event(index, EventType.SEPARATOR, bytes(4))

    assert hashlib.sha256(b"\1\0\0\0").digest() == error.digest(HashId.SHA256)
    assert _judged([error, fine], Registers.PCR).failed == {index}
