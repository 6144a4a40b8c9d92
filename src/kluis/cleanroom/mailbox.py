"""Owners who are elsewhere: a run's documents as files in the room's folder, until each has its answer.

runs/RUN/open.json               the host has an enclave waiting
runs/RUN/PARTY.challenge.json    the owner asks
runs/RUN/PARTY.offer.json        the enclave answers
runs/RUN/PARTY.release.json      the owner releases
runs/RUN/PARTY.refused.json      or says that it will not, and by which code
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from kluis.cleanroom.documents import Document, decode, encode
from kluis.cleanroom.exchange import Challenge, Offer, Release
from kluis.cleanroom.release import Owner
from kluis.cleanroom.room import Room, replace
from kluis.cleanroom.terms import Hex32, Identifier
from kluis.errors import KluisError, PolicyError, UnavailableError

T = TypeVar("T", bound=Document)
_PAUSE_SECONDS = 0.1


class Open(Document, frozen=True):
    """An enclave waits for the owners of an agreement."""

    kind: Literal["kluis-open-run/1"]
    agreement: Hex32
    run: Hex32
    collateral: Annotated[bytes, msgspec.Meta(max_length=1024 * 1024)]


class Refused(Document, frozen=True):
    """An owner's client did not release; the code says why, in no more words."""

    party: Identifier
    code: str


class Elsewhere:
    """An owner reached through the folder; the host's side.

    Args:
        room: the folder.
        party: whom to wait for.
        patience_seconds: how long, for each document.
    """

    def __init__(self, room: Room, party: str, patience_seconds: float) -> None:
        self._room, self._party, self._patience = room, party, patience_seconds
        self.folder = Path()

    def begin(self, run: str) -> None:
        """Say which run it is."""
        self.folder = self._room.path / "runs" / run

    def challenge(self) -> Challenge:
        """Wait for the owner's question."""
        return self._wait("challenge", Challenge)

    def release(self, offer: Offer, collateral: bytes) -> Release:
        """Hand the answer over, and wait for the keys.

        Raises:
            PolicyError: the owner's client refused.
        """
        replace(self.folder / f"{self._party}.offer.json", encode(offer))
        return self._wait("release", Release)

    def _wait(self, what: str, kind: type[T]) -> T:
        refused = self.folder / f"{self._party}.refused.json"
        found = wait_for((self.folder / f"{self._party}.{what}.json", refused), self._patience, self._party)
        if found == refused:
            code = decode(found.read_bytes(), Refused, "refusal").code
            raise PolicyError(f"run: {self._party} released no key ({code})", code=code)
        return decode(found.read_bytes(), kind, what)


def announce(room: Room, agreement: str, run: str, collateral: bytes) -> None:
    """Let owners elsewhere know that an enclave waits."""
    folder = room.path / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    waiting = Open(kind="kluis-open-run/1", agreement=agreement, run=run, collateral=collateral)
    replace(folder / "open.json", encode(waiting))


def withdraw(room: Room, run: str) -> None:
    """Take a run's exchange away: it ended, one way or the other."""
    folder = room.path / "runs" / run
    for pattern in ("open.json", "*.challenge.json", "*.offer.json", "*.release.json", "*.refused.json"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def take_part(
    room: Room, party: str, owner: Owner, patience_seconds: float, clock: Callable[[], datetime.datetime]
) -> str:
    """An owner's side: find the run that waits, verify, release; the run's id.

    Raises:
        UnavailableError: no run waits, or its host went away.
        KluisError: what this owner's client found wrong; the host learns the code alone.
    """
    waiting = _open_run(room, owner.agreement.hash, patience_seconds)
    folder = room.path / "runs" / waiting.run
    try:
        replace(folder / f"{party}.challenge.json", encode(owner.challenge()))
        found = wait_for((folder / f"{party}.offer.json",), patience_seconds, "the host")
        offer = decode(found.read_bytes(), Offer, "offer")
        replace(folder / f"{party}.release.json", encode(owner.release(offer, waiting.collateral, clock())))
    except KluisError as error:
        replace(folder / f"{party}.refused.json", encode(Refused(party=party, code=error.code)))
        raise
    return waiting.run


def wait_for(paths: tuple[Path, ...], patience_seconds: float, whom: str) -> Path:
    """Wait until one of these files is there; which.

    Raises:
        UnavailableError: none came in time.
    """
    until = time.monotonic() + patience_seconds
    while True:
        for path in paths:
            if path.is_file():
                return path
        if time.monotonic() >= until:
            raise UnavailableError(f"run: waited {patience_seconds:g} s for {whom}, got no {paths[0].name}")
        time.sleep(_PAUSE_SECONDS)


def _open_run(room: Room, agreement: str, patience_seconds: float) -> Open:
    until = time.monotonic() + patience_seconds
    while True:
        for path in (room.path / "runs").glob("*/open.json"):
            waiting = decode(path.read_bytes(), Open, "open.json")
            if waiting.agreement == agreement and waiting.run == path.parent.name:
                return waiting
        if time.monotonic() >= until:
            raise UnavailableError(
                "run: no enclave waits for this agreement", hint="kluis room run ROOM --image FILE"
            )
        time.sleep(_PAUSE_SECONDS)
