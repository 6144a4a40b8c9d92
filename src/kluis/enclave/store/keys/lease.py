"""Leases: a record that is read with every request is asked for a few times a second, and is never stale.

A reader uses what it read for a twentieth of a second, counted from before it asked. A writer acknowledges
a change only a twentieth of a second after it was kept: by then whoever read the record before the change
has asked again. So nobody who waited for the acknowledgement meets the old record, at any instance.
For records that are no secrets: they are held in plain.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from kluis.enclave.store.model import Storage

LEASE_SECONDS: Final = 0.05
# Two clocks that count seconds do not count them quite alike.
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
        """As :meth:`kluis.enclave.store.model.Reading.get`, or as it was within the last lease."""
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
        """Wait, after an update and before it is acknowledged, until every lease of its records is over."""
        threading.Event().wait(LEASE_SECONDS + MARGIN_SECONDS)
