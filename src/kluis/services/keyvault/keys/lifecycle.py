"""Delete, recover and purge keys."""

from __future__ import annotations

import msgspec

from kluis.enclave.store.model import Reading, Writing
from kluis.frozen import frozen
from kluis.services.keyvault.faults import DeletedKeyNotFound, Forbidden
from kluis.services.keyvault.names import check_name
from kluis.services.keyvault.vault import audit, keys, purging
from kluis.services.keyvault.vault.clock import VaultClock
from kluis.services.keyvault.vault.records import Deletion, KeyRecord
from kluis.services.keyvault.vault.schedule import SECONDS_A_DAY
from kluis.services.keyvault.vault.vault import Vault


@frozen
class Lifecycle:
    """Deletes and recovers keys.

    Attributes:
        vault: that has them.
        vault_clock: the vault's own time.
    """

    vault: Vault
    vault_clock: VaultClock

    def delete(self, name: str, now: int, subject: str) -> KeyRecord:
        """Delete a key; it can be recovered for the vault's number of days.

        Raises:
            KeyNotFound: it does not exist.
        """
        check_name(name)
        purge_at = now + self.vault.rules.recoverable_days * SECONDS_A_DAY

        def work(writing: Writing) -> KeyRecord:
            record = keys.demand(writing, name, now)
            gone = msgspec.structs.replace(record, deleted=Deletion(now, purge_at))
            self.vault_clock.hold(writing, now, keys.deletions(writing))
            keys.keep(writing, gone)
            audit.append(writing, audit.Event("delete", record.name, record.current.id, subject, now))
            return gone

        gone = self.vault.storage.update(work)
        self.vault_clock.look()
        return gone

    def get_deleted(self, name: str, now: int) -> KeyRecord:
        """A deleted key.

        Raises:
            DeletedKeyNotFound: none of the name is deleted.
        """
        return _deleted_record(self.vault.storage, check_name(name), now)

    def recover(self, name: str, now: int, subject: str) -> KeyRecord:
        """Recover a deleted key.

        Raises:
            DeletedKeyNotFound: none of the name is deleted.
        """
        check_name(name)

        def work(writing: Writing) -> KeyRecord:
            back = msgspec.structs.replace(_deleted_record(writing, name, now), deleted=None)
            keys.keep(writing, back)
            audit.append(writing, audit.Event("recover", back.name, back.current.id, subject, now))
            return back

        return self.vault.storage.update(work)

    def purge(self, name: str, now: int, subject: str) -> None:
        """Purge a deleted key irreversibly.

        Raises:
            DeletedKeyNotFound: none of the name is deleted.
            Forbidden: the vault has purge protection.
        """
        check_name(name)

        def begin(writing: Writing) -> KeyRecord:
            record = _deleted_record(writing, name, now)
            if self.vault.rules.purge_protection:
                raise Forbidden(
                    "Operation purge is not enabled for this vault: deleted keys are protected until "
                    f"{record.deleted.purge_at if record.deleted else 0}.",
                    "ForbiddenByPolicy",
                )
            audit.append(writing, audit.Event("purge", record.name, record.current.id, subject, now))
            return record

        purging.purge(self.vault.storage, name, now, begin)


def _deleted_record(reading: Reading, name: str, now: int) -> KeyRecord:
    record = keys.find(reading, name, now)
    if record is None or record.deleted is None:
        raise DeletedKeyNotFound(name)
    return record
