"""Heartbeats in the database: each command that uses its stores writes one every other second.

A change of keys and a start would miss each other if each first looked for others and then announced itself.
So each announces itself first. A command counts as running only if its heartbeat changes meanwhile: a killed
one leaves its last heartbeat. The records' safety does not depend on this, but on the store's commits;
heartbeats only report conflicts earlier.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Self, TypeAlias

import msgspec

from kluis.errors import KluisError, UnavailableError, foreign
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.frozen import frozen
from kluis.serve.store.mailbox import JOINER_BYTES, Mailbox, Step

BEAT_SECONDS: Final = 2.0
LOOK_BEATS: Final = 2.5
MOST_NAMED: Final = 4
STOP_SECONDS: Final = 10.0
Sleep: TypeAlias = Callable[[float], None]


@frozen
class Stores:
    """The stores that a command uses.

    Attributes:
        mailboxes: of each store.
        name: of the command, 16 bytes.
    """

    mailboxes: Sequence[Mailbox]
    name: bytes = dataclasses.field(default_factory=lambda: os.urandom(JOINER_BYTES))


class _Said(msgspec.Struct, array_like=True, frozen=True):
    """A command's heartbeat: its identity, and a value that changes each time."""

    host: str
    process: int
    since: int
    beat: bytes


class Presence:
    """Writes a command's heartbeats, in a thread, for as long as the ``with`` lasts.

    Args:
        stores: that it uses.
        step: the kind: :attr:`Step.PRESENT` or :attr:`Step.REKEYING`.
        since: seconds since 1970.
    """

    def __init__(self, stores: Stores, step: Step, since: int) -> None:
        self._stores = stores
        self._step = step
        self._since = since
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kluis-presence", daemon=True)

    def __enter__(self) -> Self:
        """Write the first heartbeat, and start the thread.

        Raises:
            UnavailableError: the database is unreachable.
        """
        self._say()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; an unreachable database is not waited for."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self._say()
            except KluisError:
                continue  # the services themselves report an unreachable database
        try:
            for mailbox in self._stores.mailboxes:
                with contextlib.suppress(KluisError):
                    mailbox.take_back(self._stores.name, self._step)
        finally:  # whatever the outcome: only this thread can close its connections
            for mailbox in self._stores.mailboxes:
                mailbox.leave()

    def _say(self) -> None:
        presence = _Said(platform.node(), os.getpid(), self._since, os.urandom(8))
        for mailbox in self._stores.mailboxes:
            mailbox.post(self._stores.name, self._step, msgspec.msgpack.encode(presence))


def refuse_present(stores: Stores, sleep: Sleep = time.sleep) -> None:
    """Raise if another command is running, before keys are changed.

    Args:
        stores: that the command uses.
        sleep: waits that many seconds for heartbeats.

    Raises:
        UnavailableError: another command is running; names it.
    """
    there = _alive(stores, sleep, Step.PRESENT, Step.BEAT, Step.REKEYING)
    if there:
        raise UnavailableError(
            f"database: want nobody else at its stores, got {_join(there)}",
            hint=(
                "stop it first; with --rekey-beside-others, it stops serving until you restart it, and"
                " if it writes meanwhile, the keys stay the same"
            ),
            code="state_in_use",
        )


def refuse_changing(stores: Stores, sleep: Sleep = time.sleep) -> None:
    """Raise if another command changes the stores' keys, before a start.

    Args:
        stores: that the command uses.
        sleep: waits that many seconds for heartbeats.

    Raises:
        UnavailableError: another command does; names it.
    """
    there = _alive(stores, sleep, Step.REKEYING)
    if there:
        raise UnavailableError(
            f"database: the stores' keys are being changed, by {_join(there)}",
            hint="wait until it is done",
            code="state_in_use",
        )


def _alive(stores: Stores, sleep: Sleep, *steps: Step) -> list[str]:
    """The commands with one of these kinds of heartbeats; dead ones are deleted."""
    while before := _read_posts(stores, steps):
        sleep(LOOK_BEATS * BEAT_SECONDS)
        after = _read_posts(stores, steps)
        for place, body in before.items():
            if after.get(place) == body:
                mailbox, name, step = place
                stores.mailboxes[mailbox].take_back(name, step)
        if others := {_describe(body): None for place, body in after.items() if before.get(place) != body}:
            return list(others)
        # All those seen were dead, and may have been so many that they hid running ones.
    return []


def _read_posts(stores: Stores, steps: tuple[Step, ...]) -> dict[tuple[int, bytes, Step], bytes]:
    return {
        (number, name, step): body
        for number, mailbox in enumerate(stores.mailboxes)
        for step in steps
        for name, body in mailbox.read(step).items()
        if name != stores.name
    }


def _describe(body: bytes) -> str:
    try:
        presence = msgspec.msgpack.decode(body, type=_Said)
    except UNREADABLE:
        return "one that does not say who it is"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(min(max(presence.since, 0), MOST_TIME)))
    return f"{foreign(presence.host, 64)} (process {presence.process}, since {since} UTC)"


def _join(there: list[str]) -> str:
    more = f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
    return ", ".join(there[:MOST_NAMED]) + more


MOST_TIME: Final = 253_402_300_799
"""The last second of the year 9999."""
