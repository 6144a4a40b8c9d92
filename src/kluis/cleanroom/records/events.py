"""The event log of a room: typed lines without free text, in a hash chain.

The party whose client wrote a line signs it, and it names its room: a log, or its beginning, is not valid in
another room. Anyone with access to the folder can truncate the log, but any other change is detected. The
next writer continues after what is left, so truncated lines may later be missing in the middle. A ledger kept
under several keys would close that gap. Only the party's signature supports the content and time of a line.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import time as clock
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from kluis import files
from kluis.cleanroom.agreement.documents import Document, decode, encode
from kluis.cleanroom.agreement.exchange import SignatureBytes
from kluis.cleanroom.agreement.keys import check_signature
from kluis.cleanroom.agreement.terms import Hex32, Identifier, Time
from kluis.cleanroom.records.home import Home
from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError
from kluis.hashes import sha256

SIGNED_AS = "event/1"
FIRST = "0" * 64
# Some 30,000 lines: enough for a thousand runs of thirty owners.
MAX_BYTES: Final = 16 << 20
MAX_LINE: Final = 8 << 10
_PATIENCE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.02
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
    """One event. ``subject`` is a name or a hash in the agreement or the room."""

    kind: Kind
    room: Hex32
    time: Time
    actor: Identifier
    subject: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{0,128}\Z")]
    previous: Hex32


class Line(Document, frozen=True):
    """An event with its actor's signature."""

    event: Annotated[bytes, msgspec.Meta(max_length=4096)]
    signature: SignatureBytes


def append(path: Path, room: str, home: Home, kind: Kind, subject: str, time: Time) -> int:
    """Append one event. An incomplete last line is removed first: it is no statement of anybody.

    Args:
        path: the room's ``events.jsonl``.
        room: the room's random id, 64 hex digits.
        home: of the party whose client writes it.
        kind: of event.
        subject: a name or a hash.
        time: aware; stored to the second.

    Returns:
        The size of the incomplete line that was removed, in bytes; normally 0.

    Raises:
        FormatError: the log is full, or its last line is longer than a line.
        UnavailableError: another file type is in its place, it cannot be written, or another process holds
            it.
    """
    descriptor = files.open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        # It is the only file written in place: through a hard link, the writer would append to another of its
        # files.
        if os.fstat(descriptor).st_nlink != 1:
            raise UnavailableError(f"{path}: want a file with one name, got one with another name as well")
        _hold(path, descriptor)
        size = os.fstat(descriptor).st_size
        last, torn = _last(path, descriptor, size)
        size -= torn
        raw = encode(
            Event(
                kind=kind,
                room=room,
                time=time.replace(microsecond=0),
                actor=home.party,
                subject=subject,
                previous=sha256(last).hex() if size else FIRST,
            )
        )
        line = encode(Line(event=raw, signature=home.signing.sign(SIGNED_AS, raw))) + b"\n"
        if size + len(line) > MAX_BYTES:
            raise FormatError(f"{path}: want at most {MAX_BYTES} bytes, got more", code="too_large")
        try:
            if torn:
                os.ftruncate(descriptor, size)
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise UnavailableError(f"{path}: cannot be written: no space for a line")
        except OSError as error:
            raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return torn


def record(folder: Path, room: str, home: Home, kind: Kind, subject: str, time: Time) -> str | None:
    """Append one event that has taken effect already, as :func:`append`.

    Anyone with the folder can spoil its log. So a log that takes no line is a warning, and no error.

    Args:
        folder: the room's.
        room: the room's random id, 64 hex digits.
        home: of the party whose client writes it.
        kind: of event.
        subject: a name or a hash.
        time: aware; stored to the second.

    Returns:
        The warning for the user, or None.
    """
    path = folder / "events.jsonl"
    try:
        torn = append(path, room, home, kind, subject, time)
    except KluisError as error:
        return f"the room's log has no line of {kind} {subject}: {error.message}"
    return f"{path}: removed an incomplete last line of {torn} bytes" if torn else None


def read(path: Path, room: str, keys: Callable[[str], Iterable[bytes]]) -> tuple[Event, ...]:
    """Read every event, oldest first.

    1. The log is a file of at most 16 MiB, and not empty.
    2. Each line ends, is at most 8 KiB long, and contains an event in canonical form.
    3. It is of this room.
    4. Its actor has known keys, and signed it with one of them.
    5. It contains the hash of the previous line; the first contains zeros.

    Args:
        path: the room's ``events.jsonl``.
        room: the room's random id, 64 hex digits.
        keys: returns a party's public signing keys, 32 bytes each; empty for an unknown party.

    Raises:
        UnavailableError: there is none, or another file type in its place.
        FormatError: step 1 or 2.
        AuthenticityError: step 3 to 5; names the line, from 1.
    """
    events: list[Event] = []
    actors: dict[str, tuple[bytes, ...]] = {}
    previous = FIRST
    for what, raw in _lines(path):  # 1
        line = decode(raw, Line, what)  # 2
        event = decode(line.event, Event, what)
        if event.room != room:
            raise AuthenticityError(
                f"{what}: want room {room[:16]}.., got {event.room[:16]}..", code="event"
            )  # 3
        if event.actor not in actors:
            actors[event.actor] = tuple(keys(event.actor))
        if not actors[event.actor]:
            raise AuthenticityError(f"{what}: want a party of the room, got {event.actor}", code="event")  # 4
        if not _is_signed(line, actors[event.actor], what):
            others = [name for name, known in actors.items() if _is_signed(line, known, what)]
            raise AuthenticityError(
                f"{what}: want a signature by {event.actor} over these bytes, "
                f"got one by {others[0] if others else 'no party so far'}",
                code="signature",
            )
        if event.previous != previous:
            raise AuthenticityError(
                f"{what}: want previous {previous[:16]}.., got {event.previous[:16]}..", code="event"
            )  # 5
        previous = sha256(raw).hex()
        events.append(event)
    return tuple(events)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each line without its end, and its name in messages."""
    log = io.BytesIO(files.read(path, MAX_BYTES))
    number = 0
    while raw := log.readline(MAX_LINE + 1):
        number += 1
        what = f"{path.name} line {number}"
        if not raw.endswith(b"\n"):
            if len(raw) > MAX_LINE:
                raise FormatError(f"{what}: want at most {MAX_LINE} bytes, got more", code="too_large")
            raise FormatError(
                f"{what}: want a line feed at its end, got the file's end",
                hint="the next command that writes to the log removes what is incomplete",
                code="truncated",
            )
        yield what, raw[:-1]
    if number == 0:
        raise FormatError(f"{path.name}: want at least one line, got none", code="truncated")


def _last(path: Path, descriptor: int, size: int) -> tuple[bytes, int]:
    """The last complete line without its end, empty if there is none; and the size of what follows it."""
    end = os.pread(descriptor, 2 * (MAX_LINE + 1), max(0, size - 2 * (MAX_LINE + 1)))
    lines, feed, torn = end.rpartition(b"\n")
    last = lines.rpartition(b"\n")[2] if feed else b""
    if max(len(last), len(torn)) > MAX_LINE:
        raise FormatError(f"{path}: want a last line of at most {MAX_LINE} bytes, got more", code="too_large")
    return last, len(torn)


def _is_signed(line: Line, keys: Iterable[bytes], what: str) -> bool:
    for key in keys:
        with contextlib.suppress(AuthenticityError):
            check_signature(key, line.signature, SIGNED_AS, line.event, what)
            return True
    return False


def _hold(path: Path, descriptor: int) -> None:
    """Lock the log until its descriptor is closed: two concurrent lines would both follow the same one."""
    until = clock.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if clock.monotonic() >= until:
                raise UnavailableError(
                    f"{path}: waited {_PATIENCE_SECONDS:g} s for another who writes it"
                ) from None
            clock.sleep(_PAUSE_SECONDS)
        except OSError:
            # a share without locks is allowed: concurrent writers fork its log there, and readers report it
            return
