"""Leases: cache a frequently read record for a fraction of a second, without stale reads.

A reader caches a record for a twentieth of a second, counted from before its request. A writer acknowledges a
change only a twentieth of a second after it was stored: by then every reader of the old record has read it
again. So a client that waited for the acknowledgement never sees the old record, at any instance. Only for
records that are not secret: they are cached in plaintext.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from kluis.enclave.store.model import Storage

LEASE_SECONDS: Final = 0.05
# Two clocks that count seconds do not run at exactly the same rate.
MARGIN_SECONDS: Final = 0.005
MOST_HELD: Final = 1024


class Leases:
    """Reads of one store under leases. Thread-safe.

    Args:
        storage: the store.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._held: dict[tuple[str, str], tuple[float, bytes | None]] = {}

    def get(self, table: str, key: str) -> bytes | None:
        """Like :meth:`kluis.enclave.store.model.Reading.get`, or the value within the last lease."""
        name, now = (table, key), time.monotonic()
        lease = self._held.get(name)
        if lease is not None and now < lease[0]:
            return lease[1]
        value = self._storage.get(table, key)
        if len(self._held) >= MOST_HELD:
            self._held.clear()
        self._held[name] = (now + LEASE_SECONDS, value)
        return value

    def settle(self) -> None:
        """Wait, after an update and before it is acknowledged, until every lease of its records has
        expired.
        """
        threading.Event().wait(LEASE_SECONDS + MARGIN_SECONDS)
