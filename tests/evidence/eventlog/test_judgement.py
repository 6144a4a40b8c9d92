"""Logs held against registers: how they begin, what is proven, and what is not."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.evidence.eventlog.judgement import LogClaims, Proof, judge
from kluis.evidence.eventlog.replay import Registers, fold, is_untouched, replay
from kluis.formats.eventlog import log as event_log
from kluis.formats.eventlog.event_data import GLOBAL_VARIABLES, STARTUP_LOCALITY, Variable
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import Event, EventLog
from kluis.formats.tpm.algorithm import HashId
from tests.formats.eventlog.logs import declaration, event, log, no_action, sha1_log
from tests.pace import within
from tests.strategies import PROPERTY, mutations

SHA256, SHA384, PCR, RTMR = HashId.SHA256, HashId.SHA384, Registers.PCR, Registers.RTMR


def _extend(start: bytes, *events: Event) -> bytes:
    for each in events:
        start = hashlib.sha256(start + (each.digest(SHA256) or b"")).digest()
    return start


def _variable(name: str, value: bytes, vendor: str = GLOBAL_VARIABLES) -> Event:
    return event(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, Variable(vendor, name, value).encode())


def _separator(index: int, data: bytes = bytes(4)) -> Event:
    return event(index, EventType.SEPARATOR, data)


CRTM = event(0, EventType.S_CRTM_VERSION, b"1")
BOOTED = (_variable("SecureBoot", b"\1"), _variable("PK", b"key"), _separator(7))
ZERO = bytes(32)


def test_extending() -> None:
    """A register holds the hash of what it held and what came; a note extends nothing."""
    made = log(CRTM, no_action(0, b"a note"), _separator(0), no_action(0xFFFFFFFF, b"another"))
    assert replay(made, SHA256, PCR) == {0: _extend(ZERO, CRTM, _separator(0))}
    assert replay(log(), SHA256, PCR) == {}
    assert fold([b"d" * 32], SHA256) == hashlib.sha256(ZERO + b"d" * 32).digest()
    assert fold([b"d" * 32], SHA256, b"s" * 32) == hashlib.sha256(b"s" * 32 + b"d" * 32).digest()


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_startup_locality(locality: int) -> None:
    """PCR 0, and no other, begins with the locality that started the TPM."""
    said = no_action(0, STARTUP_LOCALITY + bytes([locality]))
    made = log(said, CRTM, _separator(1))
    first = bytes(31) + bytes([locality])
    assert replay(made, SHA256, PCR) == {0: _extend(first, CRTM), 1: _extend(ZERO, _separator(1))}


def test_measured_start() -> None:
    """A core root of trust that is measured by hardware starts PCR 0 at locality 4."""
    start = event(0, EventType.EFI_HCRTM_EVENT, b"HCRTM")
    assert replay(log(start, CRTM), SHA256, PCR) == {0: _extend(bytes(31) + b"\4", start, CRTM)}
    said = no_action(0, STARTUP_LOCALITY + b"\3")
    assert replay(log(said, start), SHA256, PCR) == {0: _extend(bytes(31) + b"\3", start)}
    assert replay(log(CRTM, start), SHA256, PCR) == {0: _extend(ZERO, CRTM, start)}


@pytest.mark.parametrize(
    "events",
    [
        (no_action(0, STARTUP_LOCALITY + b"\3"),) * 2,
        (CRTM, no_action(0, STARTUP_LOCALITY + b"\3")),
        (no_action(0, STARTUP_LOCALITY + b"\7"),),
    ],
)
def test_a_tpm_starts_once(events: tuple[Event, ...]) -> None:
    """A second start, one after PCR 0 was extended, or of another locality, is no log's."""
    with pytest.raises(FormatError):
        replay(log(*events), SHA256, PCR)


def test_banks() -> None:
    """Digests of the wanted bank are in every record, or the log is rejected for that bank."""
    with pytest.raises(UnsupportedError, match="want digests of sha384") as caught:
        replay(log(CRTM), SHA384, PCR)
    assert caught.value.code == "event_log"
    partly = Event(0, EventType.ACTION, ((HashId.SHA1, bytes(20)),), b"", 5)
    with pytest.raises(FormatError, match="has no digest of sha256"):
        replay(log(CRTM, partly), SHA256, PCR)
    strange = EventLog(((HashId.SM3, 32),), True, (declaration((HashId.SM3,)),), b"")
    with pytest.raises(UnsupportedError):
        replay(strange, HashId.SM3, PCR)
    with pytest.raises(UnsupportedError, match="sm3 is not handled"):
        fold([], HashId.SM3)
    with pytest.raises(FormatError, match="want 32 bytes, got 3"):
        fold([b"abc"], SHA256)
    old = sha1_log(event(4, EventType.SEPARATOR, bytes(4), banks=(HashId.SHA1,)))
    assert list(replay(old, HashId.SHA1, PCR)) == [4]


def test_measurement_registers() -> None:
    """In a log of a confidential VM index 1 is RTMR0; MRTD is named and never extended; 5 is invalid."""
    banks = (SHA384,)
    records = [event(index, EventType.ACTION, b"x", banks=banks) for index in range(5)]
    made = log(*records, banks=banks)
    digest = hashlib.sha384(b"x").digest()
    value = hashlib.sha384(bytes(48) + digest).digest()
    assert replay(made, SHA384, RTMR) == dict.fromkeys(range(4), value)
    with pytest.raises(FormatError, match=r"want a measurement register 0\.\.4, got 5"):
        replay(log(event(5, EventType.ACTION, b"x", banks=banks), banks=banks), SHA384, RTMR)


def test_registers_a_log_is_silent_on() -> None:
    """What nothing extended is zero, or ones where only a dynamic launch may extend."""
    assert is_untouched(3, ZERO, PCR)
    assert is_untouched(17, b"\xff" * 32, PCR)
    assert not is_untouched(17, ZERO, PCR)
    assert is_untouched(0, bytes(48), RTMR)
    proven = {0: _extend(ZERO, CRTM), 1: ZERO, 3: b"x" * 32, 9: b"y" * 32, 17: b"\xff" * 32, 22: ZERO}
    judged = judge(log(CRTM, _separator(2)), SHA256, PCR, proven)
    assert judged.reproduced == {0}
    assert judged.unexplained == {3, 9, 22}
    assert judged.unseen == {2}
    assert not judged.explained
    assert judge(log(CRTM), SHA256, PCR, {9: b"y" * 32}).explained


def test_a_log_that_tells_nothing_of_firmware() -> None:
    """A log contradicts nothing where nobody proved a register of firmware's, and tells nothing of it."""
    action = event(9, EventType.ACTION, b"x")
    elsewhere = {9: _extend(ZERO, action)}
    for made, proven in (
        (log(), elsewhere),
        (log(CRTM), elsewhere),
        (log(action), elsewhere),
        (log(), {0: ZERO, **elsewhere}),
        (log(), {}),
    ):
        judged = judge(made, SHA256, PCR, proven)
        assert (judged.explained, judged.tells_of_firmware) == (True, False)
    judged = judge(log(CRTM), SHA256, PCR, {0: _extend(ZERO, CRTM), **elsewhere})
    assert (judged.explained, judged.tells_of_firmware) == (True, True)
    judged = judge(log(CRTM), SHA256, PCR, {0: _extend(ZERO, CRTM), 1: b"x" * 32})
    assert (judged.explained, judged.tells_of_firmware) == (False, False)
    banks = (SHA384,)
    late = event(3, EventType.ACTION, b"x", banks=banks)
    value = hashlib.sha384(bytes(48) + hashlib.sha384(b"x").digest()).digest()
    assert not judge(log(late, banks=banks), SHA384, RTMR, {2: value}).tells_of_firmware


def _judged(*events: Event, **changes: bytes) -> LogClaims:
    made = log(*events)
    return judge(made, SHA256, PCR, {**replay(made, SHA256, PCR), **{int(k): v for k, v in changes.items()}})


def test_contradiction() -> None:
    """Events of a register that holds something else prove nothing, not even their digests."""
    judged = judge(log(CRTM, _separator(1)), SHA256, PCR, {0: b"x" * 32, 1: _extend(ZERO, _separator(1))})
    assert (judged.contradicted, judged.reproduced, judged.explained) == ({0}, {1}, False)
    assert [each.proof for each in judged.events] == [Proof.NOTE, Proof.REGISTER, Proof.DATA]


@pytest.mark.parametrize(("index", "explained"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_running_domain_keeps_no_log(index: int, explained: bool) -> None:
    """A running domain extends RTMR2 and RTMR3 without a record: a difference there is no changed log."""
    made = log(event(index, EventType.ACTION, b"x", banks=(SHA384,)), banks=(SHA384,))
    judged = judge(made, SHA384, RTMR, {index - 1: b"y" * 48})
    assert judged.contradicted == {index - 1}
    assert judged.explained is explained
    assert judged.events[1].proof is Proof.REGISTER


def test_what_is_proven() -> None:
    """Data are proven by a digest over them; a program's never are; an unknown type means nothing."""
    cases = (
        (event(4, EventType.EFI_ACTION, b"an action"), Proof.DATA),
        (event(4, EventType.EFI_ACTION, b"an action", over=b"another"), Proof.UNPROVEN),
        (event(4, EventType.EFI_BOOT_SERVICES_APPLICATION, b"a path"), Proof.ELSEWHERE),
        (event(8, EventType.IPL, b"grub_cmd: boot\0", over=b"boot"), Proof.DATA),
        (event(9, EventType.IPL, b"/boot/vmlinuz\0", over=b"a kernel"), Proof.ELSEWHERE),
        (event(4, EventType.UNUSED, b"an action"), Proof.UNKNOWN),
        (event(4, 0x99, b"an action"), Proof.UNKNOWN),
    )
    for made, proof in cases:
        judged = _judged(made)
        assert judged.events[1].proof is proof
        assert judged.untrusted == ({made.index} if proof in (Proof.UNPROVEN, Proof.UNKNOWN) else set())


def test_after_the_separator() -> None:
    """What comes after firmware closed its register is an operating system's word."""
    late = event(4, EventType.EFI_ACTION, b"late")
    judged = _judged(late, _separator(4), late, event(8, EventType.SEPARATOR, bytes(4)), event(8, 5, b"late"))
    assert [each.after_separator for each in judged.events] == [False, False, False, True, False, False]


@pytest.mark.parametrize("kind", [EventType.SEPARATOR, EventType.EFI_ACTION, 0x99])
def test_failed_firmware(kind: int) -> None:
    """An error's separator is known by its digest, whatever its type; register 8 is not firmware's."""
    error = event(4, kind, bytes(4), over=b"\1\0\0\0")
    assert _judged(error).failed == {4}
    assert not _judged(error).explained
    assert _judged(event(8, kind, b"\1\0\0\0")).failed == set()
    assert _judged(_separator(4, b"\xff" * 4)).failed == set()


def test_a_boot_order_is_no_failure() -> None:
    """A boot variable's value may be an error's: firmware that did not fail closes the register as well."""
    order = Variable(GLOBAL_VARIABLES, "BootOrder", b"\1\0\0\0").encode()
    one = event(1, EventType.EFI_VARIABLE_BOOT, order, over=b"\1\0\0\0")
    assert _judged(one, _separator(1)).failed == set()
    assert _judged(one).failed == {1}
    assert _judged(one, event(1, EventType.EFI_ACTION, b"more")).failed == {1}
    assert _judged(_separator(1, b"\1\0\0\0"), _separator(1)).failed == {1}


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (BOOTED, True),
        ((_variable("SecureBoot", b"\0"), _separator(7)), False),
        ((_variable("SecureBoot", b""), _separator(7)), False),
        ((_variable("SecureBoot", b"\2"), _separator(7)), None),
        (BOOTED[:-1], None),
        ((_separator(7), *BOOTED), None),
        ((_variable("PK", b"key"), _separator(7)), None),
        ((BOOTED[0], *BOOTED), None),
        ((_variable("SecureBoot", b"\1", "00000000-0000-0000-0000-000000000000"), _separator(7)), None),
        ((event(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, b"short"), _separator(7)), None),
        ((event(7, EventType.UNUSED, BOOTED[0].data), *BOOTED[1:]), None),
        ((event(7, EventType.EFI_ACTION, BOOTED[0].data), *BOOTED[1:]), None),
        ((event(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, BOOTED[0].data, over=b"0"), *BOOTED[1:]), None),
        ((*BOOTED, event(7, EventType.UNUSED, b"after")), True),
    ],
)
def test_secure_boot(events: tuple[Event, ...], state: bool | None) -> None:
    """It is reported if one event before the separator proves it, and nothing is in doubt."""
    assert _judged(*events).secure_boot is state


def test_secure_boot_needs_its_register() -> None:
    """A log against a register that nobody quoted tells nothing of it."""
    assert judge(log(*BOOTED), SHA256, PCR, {}).secure_boot is None


@PROPERTY
@given(mutations(log(CRTM, no_action(0, STARTUP_LOCALITY + b"\3"), *BOOTED, _separator(4)).encode()))
def test_only_our_errors(data: bytes) -> None:
    """Whatever is done to a log, it is judged or refused."""
    for kind in Registers:
        try:
            made = event_log.parse(data)
            judged = judge(made, SHA256, kind, {7: _extend(ZERO, *BOOTED)})
        except KluisError:
            continue
        assert judged.reproduced <= {7}


def test_the_most_records_are_judged_within_a_second() -> None:
    """The largest log takes no more than a second, whatever its content."""
    one = event(4, EventType.EFI_VARIABLE_BOOT, Variable(GLOBAL_VARIABLES, "A", b"v").encode())
    made = event_log.parse(log(*[one] * 16_000).encode())
    with within(1):
        judge(made, SHA256, PCR, replay(made, SHA256, PCR))
