"""Event logs by themselves: what they replay to, against what is recorded and what a quote holds."""

from __future__ import annotations

from collections.abc import Mapping

from kluis.errors import AuthenticityError, UsageError
from kluis.evidence.eventlog.replay import Registers, fold, replay
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.eventlog import log as event_log
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.tdx.report import TdReport
from kluis.formats.tpm.algorithm import LABELS, HashId
from tests.corpus.record import Record

MAX_EVENTS = 4096
AMBIGUOUS = "ambiguous"  # either ending will do, so there may be nothing to hold it against


def verify(record: Record) -> None:
    """Replay a log in every recorded bank, and compare it with the quote in the same record.

    Raises:
        KluisError: the log is malformed; and ``AuthenticityError`` if a register differs.
        UsageError: nothing is recorded to compare it with.
    """
    data = record.files["event_log"]
    recorded, quoted = record.known.get("replayed"), record.expected.get("rtmr_matches_quote")
    if data[:1] != b"[":
        event_log.parse(data)
    if recorded is None and quoted is None and record.outcome != AMBIGUOUS:
        raise UsageError("event log: nothing is recorded of what it replays to")
    kind = Registers.RTMR if "CCEL" in record.format else Registers.PCR
    first = 1 if kind is Registers.RTMR else 0  # a CCEL counts MRTD, which nothing extends
    if recorded is not None:
        log = event_log.parse(data)
        for name, values in recorded.items():
            want = {int(n) - first: bytes.fromhex(value) for n, value in values.items() if int(n) >= first}
            _same(replay(log, LABELS[name], kind), want, name)
    if quoted is not None and "td_quote" not in record.files:
        raise UsageError("eventlog: role 'td_quote' is missing")
    if quoted is not None:
        registers = _registers(record.files["td_quote"])
        got = (
            _json(data) if data[:1] == b"[" else replay(event_log.parse(data), HashId.SHA384, Registers.RTMR)
        )
        for entry, said in quoted.items():
            name, matches = (entry, said) if isinstance(said, bool) else said
            number = int(name.removeprefix("rtmr"))
            if (got.get(number, bytes(48)) == registers[number]) is not matches:
                raise AuthenticityError(
                    f"{name}: want {'as' if matches else 'not as'} quoted", code="event_log"
                )


def _same(got: Mapping[int, bytes], want: Mapping[int, bytes], bank: str) -> None:
    for number in sorted({*got, *want}):
        if got.get(number) != want.get(number):
            raise AuthenticityError(
                f"event log: register {number} of {bank}: want {_shown(want.get(number))}, "
                f"got {_shown(got.get(number))}",
                code="event_log",
            )


def _shown(value: bytes | None) -> str:
    return "none" if value is None else value.hex()


def _json(data: bytes) -> Mapping[int, bytes]:
    """What dstack's log, a list of digests by register, replays to."""
    events = Members({"events": jcs.loads(data, "event log")}, "event log").objects("events", most=MAX_EVENTS)
    digests: dict[int, list[bytes]] = {}
    for event in events:
        digests.setdefault(event.integer("imr", most=3), []).append(event.hex("digest", 48))
    return {number: fold(found, HashId.SHA384) for number, found in digests.items()}


def _registers(quote: bytes) -> Mapping[int, bytes]:
    body = dcap_quote.parse(quote).body
    if not isinstance(body, TdReport):
        raise UsageError("td_quote: is no quote of TDX")
    return dict(enumerate((body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3)))
