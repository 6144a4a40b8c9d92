"""A host that rolls its database back: it keeps copies, and serves an old one on request."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kluis.enclave.store import SealedStore, Witness
from kluis.enclave.store.ocalls import HostSide
from kluis.enclave.store.records import StoreAnswer, StoreCommit, StoreKeys, StorePut, StoreRekey, StoreSurvey
from kluis.serve.store import Database, keeping


class SwitchedRecords:
    """Records that the host can switch.

    Attributes:
        now: the current records.
    """

    def __init__(self, now: HostSide) -> None:
        self.now = now

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        """As :meth:`kluis.enclave.store.Records.read`."""
        return self.now.read(ids, known)

    def survey(self, after: bytes) -> StoreSurvey:
        """As :meth:`kluis.enclave.store.Records.survey`."""
        return self.now.survey(after)

    def commit(self, commit: StoreCommit) -> bool:
        """As :meth:`kluis.enclave.store.Records.commit`."""
        return self.now.commit(commit)

    def keys(self, platform: bytes) -> StoreKeys:
        """As :meth:`kluis.enclave.store.ocalls.KeptKeys.keys`."""
        return self.now.keys(platform)

    def keep_key(self, platform: bytes, sealed: bytes, first: bool) -> bool:
        """As :meth:`kluis.enclave.store.ocalls.KeptKeys.keep_key`."""
        return self.now.keep_key(platform, sealed, first)

    def rekey_begin(self) -> None:
        """As :meth:`kluis.enclave.store.records.Rekeys.rekey_begin`."""
        self.now.rekey_begin()

    def rekey_put(self, version: bytes, puts: list[StorePut]) -> None:
        """As :meth:`kluis.enclave.store.records.Rekeys.rekey_put`."""
        self.now.rekey_put(version, puts)

    def rekey_finish(self, last: StoreRekey) -> bool:
        """As :meth:`kluis.enclave.store.records.Rekeys.rekey_finish`."""
        return self.now.rekey_finish(last)


class StaleStorage:
    """A store whose host keeps older copies of it.

    Args:
        folder: of the test.
        witness: creates the witness of the store's instances; None: they have none.

    Attributes:
        records: the host's side, for every instance.
        storage: the first instance, running.
    """

    def __init__(self, folder: Path, witness: Callable[[], Witness] | None = None) -> None:
        self._folder = folder
        self._witness = witness
        self._key = os.urandom(32)
        self._kept = 0
        self._open: list[Database] = []
        self.records = SwitchedRecords(self._database("live.db"))
        self.storage = self.start()

    def start(self) -> SealedStore:
        """Start another instance of the same identity, on the copy that the host serves now."""
        witness = None if self._witness is None else self._witness()
        return SealedStore(self.records, self._key, witness=witness)

    def keep(self) -> str:
        """Copy the database; return the copy's name."""
        import sqlite3

        self._kept += 1
        name = f"kept-{self._kept}.db"
        source, target = (sqlite3.connect(self._folder / one) for one in ("live.db", name))
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
        return name

    def serve(self, name: str) -> None:
        """Serve the copy ``name`` from now on."""
        self.records.now = self._database(name)

    def close(self) -> None:
        """Close every database."""
        for one in self._open:
            one.close()

    def _database(self, name: str) -> HostSide:
        self._open.append(Database(f"sqlite:///{self._folder / name}"))
        return keeping.records(self._open[-1], "test")
