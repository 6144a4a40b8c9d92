"""A room of the sample's two owners, agreed and logged as the command line logs it; made for tests."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cleanroom.agreement.agreement import sign as sign_agreement
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.records import events
from kluis.cleanroom.records.events import SIGNED_AS, Event, Kind, Line
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from tests.cleanroom import samples
from tests.cleanroom.samples import Setting


def agreed_room(path: Path, setting: Setting) -> tuple[Room, Agreement]:
    """Make a room in which both owners joined and signed, six lines in its log."""
    room = Room.create(path, "Sample", "Tests")
    for name, home in setting.homes.items():
        room.join(home, home.public(f"The {name}", ("owner", "recipient")))
        say(room, home, "party.joined", name)
    for dataset in setting.agreement.datasets:
        say(room, setting.homes[dataset.owner], "dataset.sealed", f"{dataset.id}.v1")
    agreement = msgspec.structs.replace(setting.agreement, room=room.file.room)
    room.propose(agreement)
    for name, kind in (("clinic", "agreement.proposed"), ("laboratory", "agreement.signed")):
        home = setting.homes[name]
        room.add_signature(sign_agreement(agreement, name, home.signing))
        home.agree(agreement)
        say(room, home, kind, agreement.hash)  # type: ignore[arg-type]
    return room, agreement


def say(room: Room, home: Home, kind: Kind, subject: str) -> None:
    """Put one line at the end of a room's log."""
    events.append(room.path / "events.jsonl", room.file.room, home, kind, subject, samples.NOW)


def lines(room: Room) -> list[bytes]:
    """The lines of a room's log, without their ends."""
    return (room.path / "events.jsonl").read_bytes().split(b"\n")[:-1]


def put(room: Room, changed: list[bytes]) -> None:
    """Replace a room's log."""
    (room.path / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in changed))


def resigned(line: bytes, by: Home, **changes: object) -> bytes:
    """A line with other words, signed by somebody."""
    event = msgspec.structs.replace(event_of(line), **changes)
    raw = encode(event)
    return encode(Line(event=raw, signature=by.signing.sign(SIGNED_AS, raw)))


def event_of(line: bytes) -> Event:
    """Parse the event of a line."""
    return decode(decode(line, Line, "line").event, Event, "event")
