"""The time that a vault has seen pass: what it believes of its host's clock where a mistake has no mending.

A deleted key is forgotten once its days are over, and an enclave has no clock but its host's, which may be
set ahead, by mistake or on purpose. So that alone ends no key. The vault keeps a time of its own, which
follows the host's clock down at once, and up no faster than ``PACE`` times the monotonic clock, which counts
from the machine's start and which nobody sets: the days are over when both say so. It moves on only while an
enclave runs; what a stop took is made up at the same pace.

A deletion holds it down to the time of the deletion. So whatever the clock said before, and however often the
enclave restarts, 90 days take 9 at least, and 7 days 16 hours, under a clock that no client's token
fits. A host whose kernel lies about the monotonic clock, too, is not kept out; nor is one that throws the
store away.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.services.clock import Clock
from kluis.services.keyvault.vault.records import Deletion, decode, encode

PACE: Final = 10
TABLE, KEY = "time", "seen"
# What is kept lags behind by no more, where nothing waits for it.
LAG_SECONDS: Final = 3600


class Seen(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How far a vault's own time has come.

    Attributes:
        at: seconds since 1970.
        mark: tells this writing of it from another of the same time.
    """

    at: int
    mark: bytes


def vault_time(reading: Reading) -> int:
    """The vault's own time, seconds since 1970; 0 where none was kept yet."""
    stored = _stored(reading)
    return 0 if stored is None else stored.at


class VaultClock:
    """Moves a vault's own time.

    Args:
        storage: the vault's.
        clock: the services' clock.
    """

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._from = clock.pace()
        self._known: Seen | None = _stored(storage)

    def hold(self, writing: Writing, now: int, deletions: Iterable[Deletion]) -> None:
        """Have the vault's own time be ``now`` at most, in the change that counts days from now.

        Args:
            writing: the change.
            now: the host's time, seconds since 1970.
            deletions: of keys that can be recovered; where there are none, nobody waits for the time, and it
                is ``now``.
        """
        stored = _stored(writing)
        if stored is None or stored.at > now or not any(True for _ in deletions):
            _keep(writing, now)

    def look(self) -> None:
        """Count from here on, if another time is kept than the one that was counted from."""
        with self._lock:
            self._look()

    def advance(self, now: int, deletions: Collection[Deletion]) -> None:
        """Move on towards the host's time, if a key waits for it.

        Args:
            now: the host's time, seconds since 1970.
            deletions: of keys that can be recovered: what is kept reaches each one's end without a lag.
        """
        if not deletions:
            return
        with self._lock:
            known = self._look()
            # A vault of before kept none: it is at least as late as the last deletion.
            start = known.at if known is not None else max(each.at for each in deletions)
            reached = min(now, start + int(PACE * max(0.0, self._clock.pace() - self._from)))
            ended = any(start < each.purge_at <= reached for each in deletions)
            if known is None or reached < start or reached - start >= LAG_SECONDS or ended:
                self._storage.update(lambda writing: self._move(writing, known, reached))
                self._look()

    def _look(self) -> Seen | None:
        stored = _stored(self._storage)
        if stored != self._known:
            self._known, self._from = stored, self._clock.pace()
        return stored

    def _move(self, writing: Writing, known: Seen | None, reached: int) -> None:
        """Keep what was reached from what was known; another instance's word since then stands."""
        if _stored(writing) == known:
            _keep(writing, reached)


def _stored(reading: Reading) -> Seen | None:
    value = reading.get(TABLE, KEY)
    return None if value is None else decode(Seen, value, "stored time")


def _keep(writing: Writing, at: int) -> None:
    writing.put(TABLE, KEY, encode(Seen(at, os.urandom(8))))
