"""Determine which registers an event log explains, and what is proven of its events.

A register proves the digests that were extended into it, in their order within that register, and nothing
else. The keeper of the log chooses each event's type and data. Data are proven if the digest is over them. A
type is never proven: code that interprets one must be sure that no other type fits the data.

Spec: go-attestation, "Event log disclosure"; TCG "PC Client Platform Firmware Profile", "Event Types".
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError
from kluis.evidence.eventlog.replay import Registers, is_untouched, register_of, replay
from kluis.formats.eventlog.event_data import GLOBAL_VARIABLES, parse_variable
from kluis.formats.eventlog.event_type import KNOWN, EventType
from kluis.formats.eventlog.log import Event, EventLog
from kluis.formats.eventlog.preimage import NAMED, preimages
from kluis.formats.tpm.algorithm import HashId
from kluis.frozen import frozen

# Registers that firmware closes with a separator before any part of the operating system runs.
CAPPED: Final = {Registers.PCR: range(8), Registers.RTMR: range(2)}
_SECURE_BOOT: Final = {Registers.PCR: 7, Registers.RTMR: 0}
# The registers of boot variables, whose values can equal an error separator's.
_VARIABLES: Final = {Registers.PCR: 1, Registers.RTMR: 0}
# Firmware without the variable enforces nothing.
_STATES: Final = {b"\x01": True, b"\x00": False, b"": False}
_ERROR: Final = b"\x01\x00\x00\x00"
_FINE: Final = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff")


class Proof(enum.StrEnum):
    """What a register proves about one event."""

    DATA = "data"
    """Its digest is over its data, or over the part that its type defines."""
    ELSEWHERE = "elsewhere"
    """Its digest is over something that the log does not contain: a program, a table, a named file."""
    UNPROVEN = "unproven"
    """Its type defines a digest over its data, but this digest is not: do not trust the data."""
    UNKNOWN = "unknown"
    """Its type is reserved or unknown, so what the digest covers is unknown."""
    REGISTER = "register"
    """Its register does not hold what the log claims, so not even its digest is proven."""
    NOTE = "note"
    """It extends nothing."""


@frozen
class Judged:
    """An event, and what is proven about it.

    Attributes:
        event: from the log.
        register: that it extends, or None.
        proof: how far to trust it.
        after_separator: whether it came after its register was closed, so that an operating system wrote it.
        closes: whether it closes its register: by its digest, which is proven, or by its type.
    """

    event: Event
    register: int | None
    proof: Proof
    after_separator: bool
    closes: bool


@frozen(kw_only=True)
class LogClaims:
    """The result of checking a log against registers.

    Attributes:
        registers: PCRs or RTMRs.
        bank: the hash.
        reproduced: registers that hold exactly what the log extends.
        contradicted: registers that the log extends to another value.
        unexplained: registers that were extended, but not in the log.
        unseen: registers that the log extends, but that are not proven.
        untrusted: registers with an event whose type is unknown or whose digest does not match its data.
        failed: registers with an error separator: firmware failed.
        events: every record, in order.
        secure_boot: whether firmware enforced signatures; None if the log does not prove it.
    """

    registers: Registers
    bank: HashId
    reproduced: frozenset[int]
    contradicted: frozenset[int]
    unexplained: frozenset[int]
    unseen: frozenset[int]
    untrusted: frozenset[int]
    failed: frozenset[int]
    events: tuple[Judged, ...]
    secure_boot: bool | None

    @property
    def explained(self) -> bool:
        """Whether the log contradicts no register, explains all that firmware closes, and reports no failure.

        A running domain may extend RTMR2 and RTMR3 without a log, so a contradiction there only leaves the
        events of that register unproven.
        """
        closed = set(CAPPED[self.registers])
        contradicted = self.contradicted & closed if self.registers is Registers.RTMR else self.contradicted
        return not (contradicted or self.unexplained & closed or self.failed)

    @property
    def tells_of_firmware(self) -> bool:
        """Whether it is explained, and reproduces at least one register that firmware closes.

        Without a proven firmware register, an empty log contradicts nothing.
        """
        return self.explained and not self.reproduced.isdisjoint(CAPPED[self.registers])


def judge(log: EventLog, bank: HashId, registers: Registers, proven: Mapping[int, bytes]) -> LogClaims:
    """Check a log against registers.

    Args:
        log: as parsed; of any origin.
        bank: the hash of ``proven``.
        registers: the kind of ``proven``.
        proven: values that evidence proves, by number. A running system may extend RTMR2 and RTMR3 without a
            log: the caller decides whether a contradiction there matters.

    Returns:
        What the log proves; judging it is the caller's task.

    Raises:
        FormatError: as for :func:`replay`.
    """
    replayed = replay(log, bank, registers)
    reproduced = frozenset(number for number, value in replayed.items() if proven.get(number) == value)
    quiet = {number: value for number, value in proven.items() if number not in replayed}
    judged: list[Judged] = []
    closed: set[int] = set()
    fine = {hashlib.new(bank.label, data).digest() for data in _FINE}
    for event in log.events:
        number = register_of(event, registers) if event.extends else None
        # By its digest as well: the keeper of the log may give a separator another type, and add one after
        # it.
        separates = event.kind == EventType.SEPARATOR or event.digest(bank) in fine
        closes = number is not None and number in CAPPED[registers] and separates
        judged.append(
            Judged(event, number, _proof(event, number, bank, reproduced), number in closed, closes)
        )
        if number is not None and closes:
            closed.add(number)
    doubtful = {j.register for j in judged if j.proof in (Proof.UNKNOWN, Proof.UNPROVEN)}
    return LogClaims(
        registers=registers,
        bank=bank,
        reproduced=reproduced,
        contradicted=frozenset(number for number in replayed if number in proven) - reproduced,
        unexplained=frozenset(n for n, value in quiet.items() if not is_untouched(n, value, registers)),
        unseen=frozenset(number for number in replayed if number not in proven),
        untrusted=frozenset(number for number in doubtful if number is not None),
        failed=_find_failed(judged, bank, registers),
        events=tuple(judged),
        secure_boot=_secure_boot(judged, _SECURE_BOOT[registers]),
    )


def _proof(event: Event, number: int | None, bank: HashId, reproduced: frozenset[int]) -> Proof:
    if number is None:
        return Proof.NOTE
    if number not in reproduced:
        return Proof.REGISTER
    if event.kind not in KNOWN or event.kind == EventType.UNUSED:
        return Proof.UNKNOWN
    candidates = preimages(event)
    if not candidates:
        return Proof.ELSEWHERE
    digest = event.digest(bank)
    if any(hashlib.new(bank.label, data).digest() == digest for data in candidates):
        return Proof.DATA
    return Proof.ELSEWHERE if event.kind in NAMED else Proof.UNPROVEN


def _find_failed(judged: list[Judged], bank: HashId, registers: Registers) -> frozenset[int]:
    """Registers with an error separator, by its digest, which is proven, not by its type.

    The value of a boot variable may have the same digest. In the registers of boot variables, firmware that
    did not fail also closes the register. In others, any code that runs later could extend this digest.
    """
    error, *fine = (hashlib.new(bank.label, data).digest() for data in (_ERROR, *_FINE))
    failed: set[int] = set()
    suspected: set[int] = set()
    closed: set[int] = set()
    for each in judged:
        number, digest = each.register, each.event.digest(bank)
        if number is None or number not in CAPPED[registers]:
            continue
        if digest == error:
            variable = number == _VARIABLES[registers] and each.event.kind != EventType.SEPARATOR
            (suspected if variable else failed).add(number)
        elif digest in fine:
            closed.add(number)
    return frozenset(failed | suspected - closed)


def _secure_boot(judged: list[Judged], number: int) -> bool | None:
    """The variable SecureBoot, if one event proves it and no other event casts doubt on it.

    Firmware measures it before its separator; later events may be measured by any code. A log with retyped
    events still replays. It then yields None, and never that signatures were enforced or not.
    """
    settings: list[bytes] = []
    for each in judged:
        if each.register != number:
            continue
        if each.proof not in (Proof.DATA, Proof.ELSEWHERE):
            return None
        if each.closes:
            return _STATES.get(settings[0]) if len(settings) == 1 else None
        value = _value_of_secure_boot(each.event)
        if value is not None:
            settings.append(value)
    return None


def _value_of_secure_boot(event: Event) -> bytes | None:
    if event.kind != EventType.EFI_VARIABLE_DRIVER_CONFIG:
        return None
    try:
        variable = parse_variable(event.data)
    except FormatError:
        return None
    named = (variable.vendor, variable.name) == (GLOBAL_VARIABLES, "SecureBoot")
    return variable.value if named else None
