"""The records of one store in a database; answers an enclave's store requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from kluis.enclave.store.records import (
    StoreAnswer,
    StoreCommit,
    StoreKeys,
    StoreLabel,
    StorePut,
    StoreRekey,
    StoreRow,
    StoreSurvey,
)
from kluis.errors import UnavailableError, UsageError
from kluis.serve.store.database import Database
from kluis.serve.store.faults import closed_errors, unavailable
from kluis.serve.store.rekeying import Gathering
from kluis.serve.store.statements import ENTRY, STORE

MAX_NAME: Final = 64

P = ParamSpec("P")
R = TypeVar("R")


def records(database: Database, store: str) -> KeptRecords:
    """One store's records in a database; the store is created if needed.

    Args:
        database: that contains them.
        store: its name, 1 to 64 characters.

    Raises:
        UsageError: the name is out of bounds.
        UnavailableError: the database is unreachable.
    """
    if not 1 <= len(store) <= MAX_NAME:
        raise UsageError(f"store name: want 1 to {MAX_NAME} characters, got {len(store)}")
    return KeptRecords(database, store)


class KeptRecords:
    """:class:`kluis.enclave.store.Records` in a database. Thread-safe.

    Args:
        database: that contains them.
        store: name.

    Attributes:
        number: of the store in the database.

    Raises:
        UnavailableError: the database is unreachable.
    """

    def __init__(self, database: Database, store: str) -> None:
        self.database = database
        self._made = database.statements
        self._writing = threading.Lock()  # two writers of this process would poll for SQLite's own lock
        self.number: int = self._ask(self._enter, store)
        self._gathering = Gathering(self._made, self.number)

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        """As :meth:`kluis.enclave.store.Records.read`."""
        return self._asked_again(self._read, ids, known)

    def survey(self, after: bytes) -> StoreSurvey:
        """As :meth:`kluis.enclave.store.Records.survey`."""
        return self._asked_again(self._survey, after)

    def commit(self, commit: StoreCommit) -> bool:
        """As :meth:`kluis.enclave.store.Records.commit`."""
        with self._writing:
            return self._ask(self._commit, commit)

    def keys(self, platform: bytes) -> StoreKeys:
        """As :meth:`kluis.enclave.store.ocalls.KeptKeys.keys`."""
        return self._asked_again(self._keys, platform)

    def keep_key(self, platform: bytes, sealed: bytes, first: bool) -> bool:
        """As :meth:`kluis.enclave.store.ocalls.KeptKeys.keep_key`."""
        with self._writing:
            return self._ask(self._keep_key, platform, sealed, first)

    def rekey_begin(self) -> None:
        """As :meth:`kluis.enclave.store.records.Rekeys.rekey_begin`."""
        self._transact(self._gathering.begin)

    def rekey_put(self, version: bytes, puts: list[StorePut]) -> None:
        """As :meth:`kluis.enclave.store.records.Rekeys.rekey_put`."""
        self._transact(self._gathering.put, version, puts)

    def rekey_finish(self, last: StoreRekey) -> bool:
        """As :meth:`kluis.enclave.store.records.Rekeys.rekey_finish`."""
        return self._transact(self._gathering.finish, last)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _enter(self, store: str) -> int:
        enter, find = self._made.enter_store, self._made.find_store
        with self.database.transaction() as cursor:
            cursor.execute(enter.text, enter.bind(name=store, epoch=0, head=b""))
            number: int = cursor.execute(find.text, find.bind(name=store)).fetchone()[0]
        return number

    def _read(self, ids: list[bytes], known: int) -> StoreAnswer:
        text, values = self._made.read(ids, self.number, known if known >= 0 else NO_ENTRIES)
        epoch, head = 0, b""
        entries: list[tuple[int, bytes]] = []
        rows: list[StoreRow] = []
        for kind, number, one, two, three in self.database.cursor().execute(text, values):
            if kind == STORE:
                epoch, head = number, one
            elif kind == ENTRY:
                entries.append((number, one))
            else:
                rows.append(StoreRow(one, two, three))
        if len(entries) > 1:
            entries.sort()
        if entries and entries[0][0] != known + 1:
            entries = []  # the next one is pruned: what is left tells the asker nothing
        return StoreAnswer(epoch, head if epoch != known else b"", [entry for _, entry in entries], rows)

    def _survey(self, after: bytes) -> StoreSurvey:
        survey = self._made.survey
        rows = self.database.cursor().execute(survey.text, survey.bind(store=self.number, after=after))
        return StoreSurvey([StoreLabel(*row) for row in rows])

    def _commit(self, commit: StoreCommit) -> bool:
        made, store = self._made, self.number
        with self.database.transaction() as cursor:
            head = made.head.bind(store=store, before=commit.epoch - 1, now=commit.epoch, sealed=commit.head)
            if cursor.execute(made.head.text, head).rowcount != 1:
                return False
            entry = made.entry.bind(store=store, epoch=commit.epoch, entry=commit.entry)
            cursor.execute(made.entry.text, entry)
            if commit.puts:
                puts = (
                    made.put.bind(
                        store=store, id=one.id, version=commit.version, label=one.label, value=one.value
                    )
                    for one in commit.puts
                )
                cursor.executemany(made.put.text, list(puts))
            if commit.deletes:
                deletes = [made.delete.bind(store=store, id=one) for one in commit.deletes]
                cursor.executemany(made.delete.text, deletes)
            if commit.prune:
                cursor.execute(made.prune.text, made.prune.bind(store=store, until=commit.prune))
        return True

    def _keys(self, platform: bytes) -> StoreKeys:
        cursor, find, some = self.database.cursor(), self._made.find_key, self._made.any_key
        row = cursor.execute(find.text, find.bind(store=self.number, platform=platform)).fetchone()
        if row is not None:
            return StoreKeys(row[0], True)
        return StoreKeys(b"", cursor.execute(some.text, some.bind(store=self.number)).fetchone() is not None)

    def _keep_key(self, platform: bytes, sealed: bytes, first: bool) -> bool:
        made, store = self._made, self.number
        with self.database.transaction() as cursor:
            # Only one process can lock the store's row: two that are first wait for each other here.
            cursor.execute(made.hold.text, made.hold.bind(store=store))
            some = cursor.execute(made.any_key.text, made.any_key.bind(store=store)).fetchone()
            if first and some is not None:
                return False
            keep = made.keep_key.bind(store=store, platform=platform, sealed=sealed)
            kept: bool = cursor.execute(made.keep_key.text, keep).rowcount == 1
        return kept

    def _transact(self, step: Callable[Concatenate[Any, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Take one step of a re-keying, in a transaction."""

        def run_step() -> R:
            with self.database.transaction() as cursor:
                return step(cursor, *args, **kwargs)

        with self._writing:
            return self._ask(run_step)

    def _asked_again(self, ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an idempotent request: on a new connection, if the existing one has broken."""

        def twice() -> R:
            try:
                return ask(*args, **kwargs)
            except closed_errors():
                self.database.forget()
                return ask(*args, **kwargs)

        return self._ask(twice)

    def _ask(self, ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with unavailable():
                return ask(*args, **kwargs)
        except UnavailableError:
            self.database.forget()  # a connection that broke is of no more use
            raise


NO_ENTRIES: Final = (1 << 53) - 1
