"""Who is at a database: each command that uses its stores says so there, every other second, until it ends.

A change of keys and a start would miss each other if each looked first and spoke then: so each speaks first,
and looks after. Whoever is looked for is there only if what it says changes meanwhile: one that was killed
left its last word. None of this keeps a record safe, which the store's own commits do; it tells beforehand
what would else be found out late.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec

from kluis.errors import KluisError, UnavailableError, foreign
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.serve.store.mailbox import JOINER_BYTES, Mailbox, Step

BEAT_SECONDS: Final = 2.0
LOOK_BEATS: Final = 2.5
MOST_NAMED: Final = 4
STOP_SECONDS: Final = 10.0
Sleep: TypeAlias = Callable[[float], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """The stores that a command uses.

    Attributes:
        mailboxes: of each.
        name: the command's own, 16 bytes.
    """

    mailboxes: Sequence[Mailbox]
    name: bytes = dataclasses.field(default_factory=lambda: os.urandom(JOINER_BYTES))


class _Said(msgspec.Struct, array_like=True, frozen=True):
    """What a command says of itself: who it is, and something that it did not say before."""

    host: str
    process: int
    since: int
    beat: bytes


class Presence:
    """Says that a command is there, in a thread, for as long as the ``with`` lasts.

    Args:
        stores: where.
        step: what it says: :attr:`Step.PRESENT` or :attr:`Step.REKEYING`.
        since: seconds since 1970.
    """

    def __init__(self, stores: Stores, step: Step, since: int) -> None:
        self._stores = stores
        self._step = step
        self._since = since
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kluis-presence", daemon=True)

    def __enter__(self) -> Self:
        """Say it, and go on.

        Raises:
            UnavailableError: the database does not answer.
        """
        self._say()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say it no more; a database that does not answer is not waited for."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self._say()
            except KluisError:
                continue  # the services themselves tell of a database that is away
        try:
            for mailbox in self._stores.mailboxes:
                with contextlib.suppress(KluisError):
                    mailbox.take_back(self._stores.name, self._step)
        finally:  # whatever was answered: nobody else closes this thread's connections
            for mailbox in self._stores.mailboxes:
                mailbox.leave()

    def _say(self) -> None:
        presence = _Said(platform.node(), os.getpid(), self._since, os.urandom(8))
        for mailbox in self._stores.mailboxes:
            mailbox.post(self._stores.name, self._step, msgspec.msgpack.encode(presence))


def refuse_present(stores: Stores, sleep: Sleep = time.sleep) -> None:
    """Go on to change keys only if nobody else is there.

    Args:
        stores: that the command uses.
        sleep: waits that many seconds, in which the living beat.

    Raises:
        UnavailableError: somebody is; says who.
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
    """Go on to start only if nobody changes the stores' keys.

    Args:
        stores: that the command uses.
        sleep: waits that many seconds, in which the living beat.

    Raises:
        UnavailableError: somebody does; says who.
    """
    there = _alive(stores, sleep, Step.REKEYING)
    if there:
        raise UnavailableError(
            f"database: the stores' keys are being changed, by {_join(there)}",
            hint="wait until it is done",
            code="state_in_use",
        )


def _alive(stores: Stores, sleep: Sleep, *steps: Step) -> list[str]:
    """Who says one of these things, again and again; what the dead have left is forgotten."""
    while before := _read_posts(stores, steps):
        sleep(LOOK_BEATS * BEAT_SECONDS)
        after = _read_posts(stores, steps)
        for place, body in before.items():
            if after.get(place) == body:
                mailbox, name, step = place
                stores.mailboxes[mailbox].take_back(name, step)
        if others := {_describe(body): None for place, body in after.items() if before.get(place) != body}:
            return list(others)
        # All that were heard were dead, and may have been so many that they hid the living.
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
