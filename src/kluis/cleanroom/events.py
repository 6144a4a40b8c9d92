"""What happened in a room: typed lines without free text, each holding the hash of the one before.

A line is signed by the party whose client wrote it. Whoever holds the folder can cut the end off, and
nothing else, without being found out; a ledger that several keep closes that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from kluis.cleanroom.documents import Document, decode, encode
from kluis.cleanroom.exchange import SignatureBytes
from kluis.cleanroom.home import Home
from kluis.cleanroom.keys import check_signature
from kluis.cleanroom.terms import Hex32, Identifier, Time
from kluis.errors import AuthenticityError
from kluis.hashes import sha256

SIGNED_AS = "event/1"
FIRST = "0" * 64
Kind = Literal[
    "party.joined",
    "dataset.sealed",
    "agreement.proposed",
    "agreement.signed",
    "agreement.stopped",
    "key.released",
    "run.finished",
    "result.opened",
]


class Event(Document, frozen=True):
    """One thing that happened. ``subject`` is a name or a hash that the agreement or the room knows."""

    kind: Kind
    time: Time
    actor: Identifier
    subject: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{0,128}$")]
    previous: Hex32


class Line(Document, frozen=True):
    """An event with its actor's signature."""

    event: Annotated[bytes, msgspec.Meta(max_length=4096)]
    signature: SignatureBytes


def append(path: Path, home: Home, kind: Kind, subject: str, time: Time) -> None:
    """Add one event at the end.

    Args:
        path: the room's ``events.jsonl``.
        home: whose client says so.
        kind: what happened.
        subject: to what: a name or a hash.
        time: aware; kept to the second.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    previous = sha256(lines[-1]).hex() if lines else FIRST
    raw = encode(
        Event(
            kind=kind, time=time.replace(microsecond=0), actor=home.party, subject=subject, previous=previous
        )
    )
    line = encode(Line(event=raw, signature=home.signing.sign(SIGNED_AS, raw)))
    with path.open("ab") as file:
        file.write(line + b"\n")


def read(path: Path, keys: dict[str, bytes]) -> tuple[Event, ...]:
    """Read every event, oldest first.

    Args:
        path: the room's ``events.jsonl``.
        keys: public signing keys by party.

    Raises:
        AuthenticityError: a line by nobody known, changed, removed from the middle, or put in.
    """
    events = []
    previous = FIRST
    for number, raw in enumerate(path.read_bytes().splitlines() if path.exists() else []):
        line = decode(raw, Line, f"event {number}")
        event = decode(line.event, Event, f"event {number}")
        if event.actor not in keys:
            raise AuthenticityError(f"event {number}: {event.actor} is no party", code="event")
        check_signature(
            keys[event.actor], line.signature, SIGNED_AS, line.event, f"event {number}, {event.actor}"
        )
        if event.previous != previous:
            raise AuthenticityError(f"event {number}: does not follow the one before it", code="event")
        previous = sha256(raw).hex()
        events.append(event)
    return tuple(events)
