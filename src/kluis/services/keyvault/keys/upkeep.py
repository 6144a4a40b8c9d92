"""What a vault does by itself: rotates keys, tells of keys that expire soon, forgets those deleted long ago.

Nobody wakes an enclave but its host, which knocks now and then. What is due is in the sealed store, and is
looked at again in the change that does it: a host that knocks too often has nothing done twice, and one that
does not knock, or sets its clock back, has it done later. One that sets its clock ahead has keys rotated
early, and none forgotten before the vault itself has seen the time pass
(:mod:`kluis.services.keyvault.vault.clock`).

There is no Event Grid here. That a key is near its expiry is an entry of the record, once for each version
and expiry; the log and the metrics say that there is one, not of which key: names are not for the host.

Spec: Azure Key Vault, "Configure cryptographic key auto-rotation", "Configure key near expiry notification".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime

import msgspec

from kluis.enclave.store.model import Writing
from kluis.errors import KluisError, UnavailableError
from kluis.services.keyvault.keys.keys import Keys
from kluis.services.keyvault.vault import audit, keys, purging, schedule
from kluis.services.keyvault.vault.clock import VaultClock
from kluis.services.web import Happening


@dataclasses.dataclass(frozen=True, slots=True)
class Upkeep:
    """Does what is due.

    Attributes:
        keys: about which.
        vault_clock: their vault's own time.
    """

    keys: Keys
    vault_clock: VaultClock

    def tend(self, now: datetime) -> Iterator[Happening]:
        """Do all that is due by ``now``, the longest overdue first; gives each thing once it is done.

        One key's trouble is no other's: it is given as it happens, and tried again the next time.

        Raises:
            UnavailableError: the store keeps nothing, or gives nothing.
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
        """Put on record that a key is about to expire, if it is, and nobody did before."""

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
