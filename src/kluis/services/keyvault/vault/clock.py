"""A vault clock that the host cannot push forward: it gates irreversible purges.

A deleted key is purged once its days are over. But an enclave only has its host's clock, which may be set
ahead, by mistake or on purpose, and this must not be enough to purge a key. So the vault keeps its own time.
It follows the host's clock down at once, and up at most ``PACE`` times as fast as the monotonic clock, which
counts from the machine's start and cannot be set. The days are over when both clocks agree. The vault's time
moves only while an enclave runs; after a stop it catches up at the same pace.

A deletion holds it at the time of the deletion. So whatever the clock was before, and however often the
enclave restarts, 90 days take at least 9, and 7 days take 16 hours, during which no client's token is valid.
This does not protect against a host whose kernel also falsifies the monotonic clock, or one that deletes the
store.
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
# The stored time lags by at most this much while no deletion waits for it.
LAG_SECONDS: Final = 3600


class Seen(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The progress of a vault's own time.

    Attributes:
        at: seconds since 1970.
        mark: distinguishes this write from another with the same time.
    """

    at: int
    mark: bytes


def vault_time(reading: Reading) -> int:
    """The vault's own time, seconds since 1970; 0 if none is stored yet."""
    stored = _read_stored(reading)
    return 0 if stored is None else stored.at


class VaultClock:
    """Advances a vault's own time.

    Args:
        storage: the vault's.
        clock: the services' clock.
    """

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._from = clock.pace()
        self._known: Seen | None = _read_stored(storage)

    def hold(self, writing: Writing, now: int, deletions: Iterable[Deletion]) -> None:
        """Set the vault's own time to at most ``now``, in the transaction that starts a period of days.

        Args:
            writing: the transaction.
            now: the host's time, seconds since 1970.
            deletions: of recoverable keys; if there are none, nothing waits for the time, and it is ``now``.
        """
        stored = _read_stored(writing)
        if stored is None or stored.at > now or not any(True for _ in deletions):
            _keep(writing, now)

    def look(self) -> None:
        """Restart counting from here, if another time is stored than the one counted from."""
        with self._lock:
            self._look()

    def advance(self, now: int, deletions: Collection[Deletion]) -> None:
        """Advance towards the host's time, if a key waits for it.

        Args:
            now: the host's time, seconds since 1970.
            deletions: of recoverable keys: the stored time reaches the end of each without a lag.
        """
        if not deletions:
            return
        with self._lock:
            known = self._look()
            # An older version of the vault stored none: it is at least as late as the last deletion.
            start = known.at if known is not None else max(each.at for each in deletions)
            reached = min(now, start + int(PACE * max(0.0, self._clock.pace() - self._from)))
            ended = any(start < each.purge_at <= reached for each in deletions)
            if known is None or reached < start or reached - start >= LAG_SECONDS or ended:
                self._storage.update(lambda writing: self._move(writing, known, reached))
                self._look()

    def _look(self) -> Seen | None:
        stored = _read_stored(self._storage)
        if stored != self._known:
            self._known, self._from = stored, self._clock.pace()
        return stored

    def _move(self, writing: Writing, known: Seen | None, reached: int) -> None:
        """Store the progress since the known time; a newer time from another process is preserved."""
        if _read_stored(writing) == known:
            _keep(writing, reached)


def _read_stored(reading: Reading) -> Seen | None:
    value = reading.get(TABLE, KEY)
    return None if value is None else decode(Seen, value, "stored time")


def _keep(writing: Writing, at: int) -> None:
    writing.put(TABLE, KEY, encode(Seen(at, os.urandom(8))))
