"""What an event log is worth: which registers it explains, and what of its events is proven.

A register proves the digests that were extended into it, in their order within that register, and
nothing else: type and data of an event are whatever the log's keeper wrote. Data are proven where
the digest is over them; a type is never proven, so whoever reads a meaning into one must know that
only that meaning fits the data.

Spec: go-attestation, "Event log disclosure"; TCG "PC Client Platform Firmware Profile", "Event Types".
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError
from kluis.evidence.eventlog.replay import Registers, register_of, replay, untouched
from kluis.formats.eventlog.event_data import GLOBAL_VARIABLES, parse_variable
from kluis.formats.eventlog.event_type import KNOWN, EventType
from kluis.formats.eventlog.log import Event, EventLog
from kluis.formats.eventlog.preimage import NAMED, preimages
from kluis.formats.tpm.algorithm import HashId

# Registers that firmware closes with a separator before anything of the operating system runs.
CAPPED: Final = {Registers.PCR: range(8), Registers.RTMR: range(2)}
_SECURE_BOOT: Final = {Registers.PCR: 7, Registers.RTMR: 0}
# Where boot variables are measured, whose values may be an error's.
_VARIABLES: Final = {Registers.PCR: 1, Registers.RTMR: 0}
# Firmware without the variable enforces nothing.
_STATES: Final = {b"\x01": True, b"\x00": False, b"": False}
_ERROR: Final = b"\x01\x00\x00\x00"
_FINE: Final = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff")


class Proof(enum.StrEnum):
    """What a register proves of one event."""

    DATA = "data"
    """Its digest is over its data, or the part of them that its type says."""
    ELSEWHERE = "elsewhere"
    """Its digest is over something that the log does not hold: a program, a table, a file it names."""
    UNPROVEN = "unproven"
    """Its type's digest is over its data, and this one is not: do not believe the data."""
    UNKNOWN = "unknown"
    """Its type is reserved or not known, so what the digest is over is anybody's guess."""
    REGISTER = "register"
    """Its register is not proven to hold what the log says, so not even its digest is."""
    NOTE = "note"
    """It extends nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """An event, and what is proven of it.

    Attributes:
        event: as the log has it.
        register: that it extends, or None.
        proof: how far to believe it.
        after_separator: whether its register was closed before it, so that an operating system wrote it.
        closes: whether it closes its register: by its digest, which is proven, or by its type.
    """

    event: Event
    register: int | None
    proof: Proof
    after_separator: bool
    closes: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogClaims:
    """What a log says, against the registers it was held against.

    Attributes:
        registers: PCRs or RTMRs.
        bank: the hash.
        reproduced: registers that hold exactly what the log extends.
        contradicted: registers that the log extends to another value.
        unexplained: registers that something extended and the log says nothing of.
        unseen: registers that the log extends and nobody proved.
        untrusted: registers with an event whose type is unknown or whose data its digest denies.
        failed: registers whose separator says that firmware failed.
        events: every record, in order.
        secure_boot: whether firmware enforced signatures; None where the log does not prove it.
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
        """Whether it contradicts nothing, is silent on nothing that firmware closes, tells of no failure.

        A running domain may extend RTMR2 and RTMR3 and keep no log of it, so a contradiction there
        only leaves the events of that register unproven.
        """
        closed = set(CAPPED[self.registers])
        contradicted = self.contradicted & closed if self.registers is Registers.RTMR else self.contradicted
        return not (contradicted or self.unexplained & closed or self.failed)

    @property
    def tells_of_firmware(self) -> bool:
        """Whether it is explained, and reproduces a register that firmware closes: one at least.

        A log of nothing contradicts nothing where nobody proved a register of firmware's.
        """
        return self.explained and not self.reproduced.isdisjoint(CAPPED[self.registers])


def judge(log: EventLog, bank: HashId, registers: Registers, proven: Mapping[int, bytes]) -> LogClaims:
    """Hold a log against registers.

    Args:
        log: as parsed; of any origin.
        bank: the hash of ``proven``.
        registers: what ``proven`` are.
        proven: values that evidence proves, by number. RTMR2 and RTMR3 may be extended by a running
            system that keeps no log: the caller says whether a contradiction there matters.

    Returns:
        What the log is worth; judging it is the caller's work.

    Raises:
        FormatError: as :func:`replay`.
    """
    said = replay(log, bank, registers)
    reproduced = frozenset(number for number, value in said.items() if proven.get(number) == value)
    quiet = {number: value for number, value in proven.items() if number not in said}
    judged: list[Judged] = []
    closed: set[int] = set()
    fine = {hashlib.new(bank.label, data).digest() for data in _FINE}
    for event in log.events:
        number = register_of(event, registers) if event.extends else None
        # By its digest as well: who keeps the log may give a separator another type, and add one after it.
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
        contradicted=frozenset(number for number in said if number in proven) - reproduced,
        unexplained=frozenset(n for n, value in quiet.items() if not untouched(n, value, registers)),
        unseen=frozenset(number for number in said if number not in proven),
        untrusted=frozenset(number for number in doubtful if number is not None),
        failed=_failed(judged, bank, registers),
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


def _failed(judged: list[Judged], bank: HashId, registers: Registers) -> frozenset[int]:
    """Registers whose separator is an error's, by its digest, which is proven, and not by its type.

    The value of a boot variable may have the same digest: where those are measured, firmware that did not
    fail closes the register as well. Elsewhere whoever runs after it could do that.
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
    """The variable SecureBoot, where one event proves it and nothing beside it is in doubt.

    Firmware measures it before its separator; what follows that, whoever runs then may have measured. A log
    whose events there have been retyped still replays; it then says nothing, and never that signatures were
    not enforced, or were.
    """
    found: list[bytes] = []
    for each in judged:
        if each.register != number:
            continue
        if each.proof not in (Proof.DATA, Proof.ELSEWHERE):
            return None
        if each.closes:
            return _STATES.get(found[0]) if len(found) == 1 else None
        value = _value_of_secure_boot(each.event)
        if value is not None:
            found.append(value)
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
