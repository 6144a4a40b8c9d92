"""A vault's automatic upkeep: rotates keys, records keys that expire soon, and purges those deleted long ago.

Only its host can wake an enclave, by an occasional call. The schedule is in the sealed store, and is checked
again in the transaction that carries it out. A host that calls too often has nothing done twice; one that
does not call, or sets its clock back, delays it. A host that sets its clock ahead has keys rotated early, but
none purged before the vault itself has observed the time pass (:mod:`kluis.services.keyvault.vault.clock`).

There is no Event Grid here. A key near its expiry gets an entry in the record, once for each version and
expiry. Log and metrics only show that there is one, not its key: names are not for the host.

Spec: Azure Key Vault, "Configure cryptographic key auto-rotation", "Configure key near expiry notification".
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from kluis.enclave.store.model import Writing
from kluis.errors import KluisError, UnavailableError
from kluis.frozen import frozen
from kluis.services.keyvault.keys.keys import Keys
from kluis.services.keyvault.vault import audit, keys, purging, schedule
from kluis.services.keyvault.vault.clock import VaultClock
from kluis.services.web import Happening


@frozen
class Upkeep:
    """Carries out the upkeep that is due.

    Attributes:
        keys: of the vault.
        vault_clock: the vault's own time.
    """

    keys: Keys
    vault_clock: VaultClock

    def tend(self, now: datetime) -> Iterator[Happening]:
        """Do everything that is due by ``now``, the longest overdue first; yield each event once it is done.

        A failure for one key does not affect the others: it is yielded, and retried the next time.

        Raises:
            UnavailableError: the store cannot be read or written.
        """
        at = int(now.timestamp())
        names = keys.due(self.keys.vault.storage, at)
        self.vault_clock.advance(at, list(keys.deletions(self.keys.vault.storage)))
        for name in names:
            try:
                if (entry := purging.clear(self.keys.vault.storage, name, at)) is not None:
                    yield Happening("auto_purge", entry)
                elif (entry := self.keys.again_if_due(name, at)) is not None:
                    yield Happening("auto_rotate", entry)
                elif (entry := self._record_near_expiry(name, at)) is not None:
                    yield Happening("near_expiry", entry)
            except UnavailableError:
                raise
            except KluisError as error:
                yield Happening("upkeep_failed", code=error.code)

    def _record_near_expiry(self, name: str, now: int) -> int | None:
        """Record that a key is about to expire, if it is, and it was not recorded before."""

        def work(writing: Writing) -> int | None:
            record = keys.find(writing, name, now)
            when = None if record is None else schedule.notify_at(record)
            if record is None or when is None or when > now:
                return None
            event = audit.Event("near-expiry", record.name, record.current.id, "", now)
            sequence = audit.append(writing, event)
            keys.keep(writing, msgspec.structs.replace(record, told=schedule.last_notice(record)))
            return sequence

        return self.keys.vault.storage.update(work)
