"""Re-key a store's records: collect them in a temporary store, then replace the original in one
transaction.
"""

from __future__ import annotations

import os
from typing import Any, Final

from kluis.enclave.store.records import StorePut, StoreRekey
from kluis.errors import UnavailableError
from kluis.hashes import sha256
from kluis.serve.store.statements import Statements

PREFIX: Final = "~"


class Gathering:
    """The temporary store for one store. Each method must run in a transaction, and takes its cursor.

    Args:
        made: the prepared statements.
        store: number of the store.
    """

    def __init__(self, made: Statements, store: int) -> None:
        self._made = made
        self._store = store
        # By name: SQLite reuses the number of a deleted store.
        self._staging = ""
        # Names of stores are chosen by users; these cannot be.
        self._prefix = f"{PREFIX}{sha256(b'%d' % store).hex()[:16]}"

    def begin(self, cursor: Any) -> None:
        """Delete unfinished records of others, and begin again."""
        made = self._made
        name = f"{self._prefix}{os.urandom(12).hex()}"
        for (number,) in cursor.execute(
            made.stagings.text, made.stagings.bind(like=f"{self._prefix}%")
        ).fetchall():
            self._drop(cursor, number)
        cursor.execute(made.enter_store.text, made.enter_store.bind(name=name, epoch=0, head=b""))
        self._staging = name

    def put(self, cursor: Any, version: bytes, puts: list[StorePut]) -> None:
        """Collect records.

        Raises:
            UnavailableError: no re-keying was begun, or another began since.
        """
        put, staging = self._made.put, self._begin(cursor)
        rows = [
            put.bind(store=staging, id=one.id, version=version, label=one.label, value=one.value)
            for one in puts
        ]
        if rows:
            cursor.executemany(put.text, rows)

    def finish(self, cursor: Any, last: StoreRekey) -> bool:
        """Replace the store with the collected records, if its last commit is the previous one.

        Raises:
            UnavailableError: no re-keying was begun, or another began since.
        """
        made, store, staging = self._made, self._store, self._begin(cursor)
        head = made.head.bind(store=store, before=last.epoch - 1, now=last.epoch, sealed=last.head)
        if cursor.execute(made.head.text, head).rowcount != 1:
            return False
        for wipe in made.wipe.values():
            cursor.execute(wipe.text, wipe.bind(store=store))
        moved = cursor.execute(made.move.text, made.move.bind(staging=staging, into=store)).rowcount
        if moved != last.count:
            raise UnavailableError(f"store: re-keying: want {last.count} records, got {moved}")
        keep = made.keep_key.bind(store=store, platform=last.platform, sealed=last.sealed)
        cursor.execute(made.keep_key.text, keep)
        self._drop(cursor, staging)
        return True

    def _begin(self, cursor: Any) -> int:
        find = self._made.find_store
        row = cursor.execute(find.text, find.bind(name=self._staging)).fetchone()
        if row is None:
            raise UnavailableError("store: re-keying: want one that has begun, got none, or another since")
        number: int = row[0]
        return number

    def _drop(self, cursor: Any, number: int) -> None:
        for wipe in self._made.wipe.values():
            cursor.execute(wipe.text, wipe.bind(store=number))
        cursor.execute(self._made.forget_store.text, self._made.forget_store.bind(store=number))
