"""Read files that a user names for room commands, and write to the room's log."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Final

from kluis import files
from kluis.cleanroom.records import events
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.records.trust import Trust
from kluis.cli import render
from kluis.cli.parameters import argument, option
from kluis.errors import FormatError
from kluis.views.rooms import trust_here

RoomArgument = Annotated[Path, argument("The room's folder.", "ROOM")]
Roots = Annotated[
    list[Path] | None,
    option(
        "A root that you received from its machine's owner over another channel; may be repeated.",
        "PEM",
        "--root",
    ),
]
Confirmations = Annotated[
    list[str] | None,
    option(
        "The fingerprint that this party read to you; needed once for each party.",
        "PARTY=FINGERPRINT",
        "--confirm",
    ),
]
#: Of a plan, terms, a root or a receipt.
MAX_TEXT: Final = 4 << 20


def text(path: Path) -> str:
    """Read a text that the user names.

    Raises:
        UsageError: it cannot be read.
        FormatError: it is not UTF-8, or longer than 4 MiB.
    """
    try:
        return files.read_named(path, MAX_TEXT).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: want text, found a byte that is not UTF-8 at {error.start:#x}") from error


def trust(home: Home, roots: list[Path] | None) -> Trust:
    """A party's trust: its record, the roots that it names, and this machine's platform if one runs."""
    return trust_here(home, [files.read_named(path, MAX_TEXT) for path in roots or ()])


def record(room: Room, home: Home, kind: events.Kind, subject: str) -> None:
    """Add a line to a room's log.

    What it states has taken effect, and anyone with the folder can spoil the log. So a log that takes no line
    is a warning, and no error.
    """
    if warning := events.record(room.path, room.file.room, home, kind, subject, now()):
        render.note(f"kluis: warning: {warning}")


def now() -> datetime.datetime:
    """The current time on this machine."""
    return datetime.datetime.now(datetime.UTC)
