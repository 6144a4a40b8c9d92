"""Exchange a run's documents with remote owners, as files in the room's folder.

runs/RUN/open.json               the host has an enclave waiting
runs/RUN/PARTY.challenge.json    the owner's question
runs/RUN/PARTY.offer.json        the enclave's answer
runs/RUN/PARTY.release.json      the owner's release
runs/RUN/PARTY.refused.json      or its refusal, with a code

Others write in this folder, too: each kind of document has a size past which it is not read. One that cannot
be read is passed over until it is replaced, or the wait ends, with an error that names it.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from kluis.cleanroom.agreement.documents import Document, decode, encode
from kluis.cleanroom.agreement.exchange import Challenge, Offer, Release
from kluis.cleanroom.agreement.terms import Hex32, Identifier
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.running.release import Owner, check_stops
from kluis.errors import FormatError, KluisError, PolicyError, UnavailableError

T = TypeVar("T", bound=Document)
_PAUSE_SECONDS = 0.1
# Bytes. The content of a document is bounded too: a third more in base64, and its names.
MOST: Final = {
    "open": 2 << 20,
    "challenge": 4 << 10,
    "offer": 512 << 10,
    "release": 2 << 20,
    "refused": 4 << 10,
}


class Open(Document, frozen=True):
    """An enclave waits for the owners of an agreement."""

    kind: Literal["kluis-open-run/1"]
    agreement: Hex32
    run: Hex32
    collateral: Annotated[bytes, msgspec.Meta(max_length=1024 * 1024)]


class Refused(Document, frozen=True):
    """An owner's client did not release; only a code gives the reason."""

    party: Identifier
    code: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]


class RemoteOwner:
    """An owner reached through the folder; the host's side.

    Args:
        room: the folder.
        party: to wait for.
        patience_seconds: timeout for each document.
    """

    def __init__(self, room: Room, party: str, patience_seconds: float) -> None:
        self._room, self._party, self._patience = room, party, patience_seconds
        self._run = ""

    def begin(self, run: str) -> None:
        """Set the run's id."""
        self._run = run

    def challenge(self) -> Challenge:
        """Wait for the owner's challenge."""
        return self._wait("challenge", Challenge)

    def release(self, offer: Offer, collateral: bytes) -> Release:
        """Deliver the offer, and wait for the keys.

        Raises:
            PolicyError: the owner's client refused.
        """
        _put(self._room, self._run, f"{self._party}.offer", offer)
        return self._wait("release", Release)

    def _wait(self, what: str, kind: type[T]) -> T:
        kinds: dict[str, type[T] | type[Refused]] = {
            f"{self._party}.{what}": kind,
            f"{self._party}.refused": Refused,
        }
        message = _wait_for(self._room, self._run, kinds, self._patience, self._party)
        if isinstance(message, Refused):
            raise PolicyError(f"run: {self._party} released no key ({message.code})", code=message.code)
        return message


def announce(room: Room, agreement: str, run: str, collateral: bytes) -> None:
    """Announce to remote owners that an enclave is waiting."""
    room.folder.make(f"runs/{run}")
    _put(
        room, run, "open", Open(kind="kluis-open-run/1", agreement=agreement, run=run, collateral=collateral)
    )


def withdraw(room: Room, run: str) -> None:
    """Remove a run's exchange after it ended, with or without a result."""
    for name in room.folder.names(f"runs/{run}", ".json"):
        if name.removesuffix(".json").rpartition(".")[2] in MOST:
            room.folder.remove(f"runs/{run}/{name}")
    room.folder.remove_empty(f"runs/{run}")


def take_part(
    room: Room, party: str, owner: Owner, patience_seconds: float, clock: Callable[[], datetime.datetime]
) -> str:
    """Take part as an owner: find the newest waiting run, verify, release; return the run's id.

    Raises:
        UnavailableError: no run is waiting, or its host ended it or disappeared.
        KluisError: the reason why this owner's client refused; the host gets only the code.
    """
    waiting = _open_run(room, owner.agreement.hash, patience_seconds)
    run = waiting.run
    try:
        challenge = owner.challenge()
        try:
            _put(room, run, f"{party}.challenge", challenge)
            offers = {f"{party}.offer": Offer}
            offer = _wait_for(room, run, offers, patience_seconds, "the host", while_open=True)
        finally:  # one may have come while the host was waited for, who ends the run by it
            check_stops(room.stops(owner.agreement), owner.agreement)
        release = owner.release(offer, waiting.collateral, clock(), run)
        _put(room, run, f"{party}.release", release)
    except KluisError as error:
        # The host may have removed the run, which must not hide from the owner why nothing was released.
        with contextlib.suppress(KluisError):
            _put(room, run, f"{party}.refused", Refused(party=party, code=error.code))
        raise
    return run


def _put(room: Room, run: str, name: str, document: Document) -> None:
    room.folder.replace(f"runs/{run}/{name}.json", encode(document))


def _get(room: Room, run: str, name: str, kind: type[T]) -> T:
    most = MOST[name.rpartition(".")[2]]
    return decode(room.folder.read(f"runs/{run}/{name}.json", most), kind, f"runs/{run[:16]}../{name}.json")


def _wait_for(
    room: Room,
    run: str,
    kinds: Mapping[str, type[T]],
    patience_seconds: float,
    whom: str,
    *,
    while_open: bool = False,
) -> T:
    """Wait until one of these documents exists and can be read.

    Raises:
        UnavailableError: none came in time, or, if checked, the run is no longer open.
        FormatError: the time is over, and an unreadable file is in its place.
    """
    until = time.monotonic() + patience_seconds
    while True:
        is_open = not while_open or room.folder.has(f"runs/{run}/open.json")
        unreadable = None
        for name, kind in kinds.items():
            if room.folder.has(f"runs/{run}/{name}.json"):
                try:
                    return _get(room, run, name, kind)
                except (FormatError, UnavailableError) as error:
                    unreadable = error
        if is_open and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
            continue
        first = f"{next(iter(kinds))}.json"
        if unreadable is not None:
            raise unreadable
        if not is_open:
            raise UnavailableError(f"run: {whom} ended it before {first} was there")
        raise UnavailableError(f"run: waited {patience_seconds:g} s for {whom}, got no {first}")


def _open_run(room: Room, agreement: str, patience_seconds: float) -> Open:
    until = time.monotonic() + patience_seconds
    others: dict[str, int] = {}  # what was read, and is no run of this agreement, by when it was changed
    unreadable: KluisError | None = None
    while True:
        times = [(room.folder.modification_time(f"runs/{run}/open.json"), run) for run in room.run_names()]
        # The newest first: a host that was killed leaves its run open.
        for changed, run in sorted(((at, run) for at, run in times if at is not None), reverse=True):
            if others.get(run) == changed:
                continue
            try:
                waiting = _get(room, run, "open", Open)
                if (waiting.agreement, waiting.run) == (agreement, run):
                    return waiting
            except (FormatError, UnavailableError) as error:  # anyone who can write here can put it here
                unreadable = unreadable or error  # that of the newest
            others[run] = changed
        if time.monotonic() >= until:
            raise unreadable or UnavailableError(
                "run: no enclave waits for this agreement", hint="kluis room run ROOM --image FILE"
            )
        time.sleep(_PAUSE_SECONDS)
