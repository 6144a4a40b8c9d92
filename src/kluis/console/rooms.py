"""The pages about rooms: agreements and their signatures, receipts, and the log as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import Agreement, SqlAnalysis, check_signed, signers
from kluis.cleanroom.agreement.terms import strictest_k
from kluis.cleanroom.analyses import budget
from kluis.cleanroom.receipts.receipt import CheckedReceipt, check_receipt
from kluis.cleanroom.records import events as log
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.keyring import Keyring
from kluis.cleanroom.records.reading import check_place, own_record
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.signing import approval
from kluis.cleanroom.signing.explain import answers_together, describe_machine, explain
from kluis.console.state import Console
from kluis.errors import KluisError, PolicyError, UnavailableError, UsageError
from kluis.evidence.levels import MEANINGS, ProtectionLevel
from kluis.frozen import frozen
from kluis.views.rooms import log_proves, receipt_rows, trust_here

MOST_EVENTS: Final = 1000
MOST_RECEIPTS: Final = 100
MOST_STREAMS: Final = 16
LOOK_SECONDS: Final = 1.0
ALIVE_LOOKS: Final = 15
CONFIRM: Final = "confirm."


async def list_rooms(console: Console, request: Request) -> Response:
    """The rooms that the console was started for."""
    rooms = await run_in_threadpool(lambda: [(each, _state(each)) for each in console.rooms.values()])
    return console.pages.page(request, "rooms.html", rooms=rooms)


def _state(room: Room) -> str:
    """The state of a room's agreement, in words."""
    try:
        check_signed(room.signed_agreement())
    except KluisError as fault:
        if isinstance(fault, UnavailableError):
            return "no agreement is proposed"
        return "waits for signatures" if fault.code == "agreement_unsigned" else fault.message
    return "signed by all parties"


@frozen
class Reader:
    """One party on this machine, and what it may do with an agreement.

    Attributes:
        home: its own folder.
        signed: whether it signed the agreement, by its own record.
        standings: its knowledge of each party's keys, by short name.
        roots: of each root, its level and who gave it; "" for an unknown root.
    """

    home: Home
    signed: bool
    standings: dict[str, str]
    roots: list[tuple[str, str]]

    @property
    def unconfirmed(self) -> list[str]:
        """The parties whose fingerprints must be entered before it can sign."""
        return [name for name, standing in self.standings.items() if standing == "not confirmed"]


async def agreement(console: Console, request: Request) -> Response:
    """The proposed agreement as a contract, and a form for each party on this machine."""
    room = console.room(request.path_params["room"])
    contract = await run_in_threadpool(_contract, console, room)
    return console.pages.page(request, "agreement.html", room=room, **contract)


def _contract(console: Console, room: Room) -> dict[str, Any]:
    proposal = approval.read_proposal(room)
    homes = [each for each in console.homes() if each.party in {party.id for party in proposal.parties}]
    readers = [_reader(home, proposal) for home in homes]
    there = signers(proposal, room.signed_agreement().signatures)
    names = [party.id for party in proposal.parties]
    return {
        "agreement": proposal,
        "readers": readers,
        "signed": [name for name in names if name in there],
        "missing": [name for name in names if name not in there],
        "fingerprints": {party.id: fingerprint.of(party) for party in proposal.parties},
        "figures": (budget.total_figures(proposal), budget.most_figures(proposal)),
        "together": answers_together(proposal),
        "groups": {
            each.id: strictest_k(proposal.k_min, tuple(proposal.dataset(name).terms for name in each.inputs))
            for each in proposal.analyses
        },
        "queries": {
            each.id: each.query if isinstance(each, SqlAnalysis) else each.table for each in proposal.analyses
        },
        "levels": [
            (name, MEANINGS[ProtectionLevel(name)])
            for name in proposal.code.protection
            if name in set(ProtectionLevel)
        ],
        "machine": describe_machine(proposal.code.machine) if proposal.code.machine else "",
        "everything": explain(proposal),
    }


def _reader(home: Home, proposal: Agreement) -> Reader:
    trust = trust_here(home)
    roots: list[tuple[str, str]] = []
    for pem in proposal.code.roots:
        try:
            anchor, whose = trust.root(pem)
            roots.append((f"{anchor.name}, level {anchor.level}", whose))
        except KluisError as fault:
            roots.append((fault.message, ""))
    return Reader(
        home=home,
        signed=home.has_signed(proposal.hash),
        standings={party.id: trust.standing(party) for party in proposal.parties},
        roots=roots,
    )


async def sign(console: Console, request: Request, form: FormData) -> Response:
    """Sign the agreement that the page showed, as one party of this machine."""
    room = console.room(request.path_params["room"])
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    await run_in_threadpool(_sign, console, room, fields)
    return RedirectResponse(f"/rooms/{room.file.room}", 303)


def _sign(console: Console, room: Room, fields: dict[str, str]) -> None:
    """Sign, on the same path as ``kluis room approve``.

    Raises:
        UsageError: the form names no party of this machine, or was not confirmed.
        KluisError: the agreement is not the one that was shown, or must not be signed.
    """
    named = fields.get("party", "")
    home = next((each for each in console.homes() if each.party == named), None)
    if home is None:
        raise UsageError(f"sign: want a party with keys on this machine, got {named[:80]!a}")
    if fields.get("read") != "yes":
        raise UsageError("sign: want your confirmation that you read the agreement, got none")
    proposal = approval.read_proposal(room, fields.get("agreement", ""))
    trust = trust_here(home)
    for party in proposal.parties:
        digits = fields.get(f"{CONFIRM}{party.id}", "").strip()
        if digits:
            trust.confirm(party, digits)
    signature = approval.sign(room, home, trust, proposal)
    approval.publish(room, home, trust, proposal, signature)
    log.record(room.path, room.file.room, home, "agreement.signed", proposal.hash, console.now())


async def receipts(console: Console, request: Request) -> Response:
    """The receipts of a room's runs, each checked against a record of this machine."""
    room = console.room(request.path_params["room"])
    runs = await run_in_threadpool(lambda: list(reversed(room.runs())))
    shown = runs[:MOST_RECEIPTS]
    checked = await run_in_threadpool(lambda: [(run, _receipt(console, room, run)) for run in shown])
    return console.pages.page(
        request, "receipts.html", room=room, receipts=checked, more=len(runs) - len(shown)
    )


@frozen
class Proof:
    """A receipt that was checked.

    Attributes:
        party: whose record was used.
        checked: the receipt.
        rows: what it proves.
    """

    party: str
    checked: CheckedReceipt
    rows: list[tuple[str, str]]


def _receipt(console: Console, room: Room, run: str) -> Proof | KluisError:
    fault: KluisError = PolicyError(
        "receipt: no party on this machine signed its agreement",
        hint="kluis room receipt ROOM --agreement HASH",
        code="agreement_unsigned",
    )
    for home in console.homes():
        try:
            room.require_same(home)
            file = room.receipt(run)
            checked = check_receipt(file, own_record(home, file))
            check_place(checked, room, run)
            return Proof(home.party, checked, receipt_rows(checked))
        except KluisError as error:
            fault = error if error.code != "agreement_unsigned" else fault
    return fault


@frozen
class Lines:
    """A room's log, as one reader can check it.

    Attributes:
        events: oldest first.
        words: by whose statement each actor's key is known.
        proves: what the log proves, in a sentence.
    """

    events: tuple[log.Event, ...]
    words: dict[str, str]
    proves: str


def read_log(console: Console, room: Room) -> Lines:
    """Check a room's log with the keys of this machine's parties.

    Raises:
        KluisError: a line is not authentic, or there is no log.
    """
    homes = console.homes()
    home = next((each for each in homes if each.agreements(room.file.room)), homes[0] if homes else None)
    if home:
        room.require_same(home)
    signed = home.agreements(room.file.room) if home else ()
    keyring = Keyring(room, signed, home)
    entries = log.read(room.path / "events.jsonl", room.file.room, keyring.keys)
    words = {each.actor: keyring.word(each.actor) for each in entries}
    return Lines(entries, dict(words), log_proves(room.file.room, len(entries), signed, words))


async def events(console: Console, request: Request) -> Response:
    """A room's log; new lines are added as they are written."""
    room = console.room(request.path_params["room"])
    lines = await run_in_threadpool(read_log, console, room)
    first = max(0, len(lines.events) - MOST_EVENTS)
    return console.pages.page(
        request, "events.html", room=room, lines=lines, first=first, last=len(lines.events)
    )


async def stream(console: Console, request: Request) -> Response:
    """New lines of a room's log, as server-sent events: each is a row of the page's table."""
    room = console.room(request.path_params["room"])
    after = request.headers.get("last-event-id") or request.query_params.get("after", "")
    if not (after.isascii() and after.isdigit() and len(after) < 10):
        raise UsageError(f"after: want the number of a line, got {after[:32]!a}")
    if console.streams >= MOST_STREAMS:
        raise UnavailableError(f"events: want at most {MOST_STREAMS} open pages, got more")
    return StreamingResponse(_rows(console, room, int(after)), media_type="text/event-stream")


async def _rows(console: Console, room: Room, after: int) -> AsyncIterator[str]:
    console.streams += 1
    try:
        yield ": begins\n\n"
        seen, fault, quiet = None, "", 0
        while not console.ending:
            mark = await run_in_threadpool(_mark, room)
            if mark != seen:
                seen = mark
                try:
                    lines = await run_in_threadpool(read_log, console, room)
                except KluisError as error:
                    if fault != error.message:
                        fault = error.message
                        yield _event("problem", console.pages.text("problem.html", fault=error))
                else:
                    if fault:
                        fault = ""
                        yield _event("problem", "")
                    for number, each in enumerate(lines.events[after:], after + 1):
                        row = console.pages.text("event.html", number=number, event=each, words=lines.words)
                        yield _event("line", row, number)
                    after = max(after, len(lines.events))
                quiet = 0
            quiet += 1
            if quiet % ALIVE_LOOKS == 0:
                yield ": alive\n\n"
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        console.streams -= 1


def _mark(room: Room) -> tuple[int, int] | None:
    """What changes with a room's log: its time and size; None if there is none."""
    try:
        status = (room.path / "events.jsonl").lstat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _event(name: str, text: str, number: int | None = None) -> str:
    """One server-sent event; a line feed in its data would end a field."""
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {name}\ndata: {' '.join(text.split())}\n\n"
