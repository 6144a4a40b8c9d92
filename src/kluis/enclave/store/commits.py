"""Committing: combine several threads' transactions into one sealed commit, stored only if no other came
first.

A disk does one flush at a time. So transactions that wait during a commit share the next one, unless one has
read what another changes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from kluis.enclave.store.cipher import Change, Cipher, EntryContent, HeadContent, Label, make_version
from kluis.enclave.store.directory import Name
from kluis.enclave.store.host import Host
from kluis.enclave.store.records import KEPT_EPOCHS, MAX_CHANGES, MAX_COMMIT_BYTES, StoreCommit, StorePut
from kluis.enclave.store.transaction import Put, Transaction
from kluis.enclave.store.view import View
from kluis.errors import AuthenticityError, KluisError, UnavailableError

TRIES: Final = 16


class Committer:
    """Commits transactions. Thread-safe.

    Args:
        host: stores the records.
        cipher: has the store's key.
        view: this instance's state of the store.
    """

    def __init__(self, host: Host, cipher: Cipher, view: View) -> None:
        self._host = host
        self._cipher = cipher
        self._view = view
        self._turn = threading.Lock()
        self._waiting: deque[_Waiting] = deque()

    def commit(self, transaction: Transaction, *meanwhile: Callable[[], None]) -> bool:
        """Commit a transaction's changes.

        Args:
            transaction: with changes.
            meanwhile: each runs once, in order and in this thread: the first one while the host writes or
                others wait for it, the second one while the witness is updated, and others at the end.

        Returns:
            Whether it is committed; if not, others changed what it has read, and it must run again.

        Raises:
            AuthenticityError: the host's answer is not authentic.
            UnavailableError: the host does not store it, or it is unknown whether it did.
        """
        mine = _Waiting(transaction)
        self._waiting.append(mine)
        aside = _Aside(meanwhile)
        if not self._turn.acquire(blocking=False):
            aside.run()
            self._turn.acquire()
        try:
            while mine.committed is None and mine.error is None:
                self._commit_together(self._next(), aside)
        finally:
            self._turn.release()
        if mine.error is not None:
            raise mine.error
        aside.end()
        return bool(mine.committed)

    def _next(self) -> list[_Waiting]:
        """The waiting transactions that fit one commit; at least one."""
        taken: list[_Waiting] = []
        changes = size = 0
        while self._waiting:
            one = self._waiting[0].transaction
            changes, size = changes + len(one.changes), size + one.bytes
            if taken and (changes > MAX_CHANGES or size > MAX_COMMIT_BYTES):
                break
            taken.append(self._waiting.popleft())
        return taken

    def _commit_together(self, batch: list[_Waiting], aside: _Aside) -> None:
        try:
            for _ in range(TRIES):
                batch = [one for one in batch if one.committed is None]
                base = self._merge(batch)
                if base is None or self._offer(base, *self._seal(base), aside):
                    break
            else:
                _all_again(batch)
            for one in batch:
                one.committed = one.committed is None
        except KluisError as error:
            _fail(batch, error)
        except BaseException:
            _fail(batch, UnavailableError(CUT_SHORT, code="store_unavailable"))
            raise

    def _merge(self, batch: list[_Waiting]) -> _Base | None:
        """The changes of the whole batch; None if there are none. Transactions that must run again are
        marked.
        """
        view = self._view
        if not view.directory.whole:
            view.ask([])
        merged: dict[Name, Put | None] = {}
        with view.lock:
            directory = view.directory
            for one in batch:
                if one.transaction.touched_by(directory) or one.transaction.reads_any(merged):
                    one.committed = False
                else:
                    merged |= one.transaction.changes
            changes = {
                name: put
                for name, put in merged.items()
                if put is not None or directory.find(name) is not None
            }
            if not changes:
                return None
            epoch = directory.epoch + 1
            version = make_version(epoch)
            entry_changes = [
                Change(*name, put.index if put else "", put is None) for name, put in changes.items()
            ]
            members = directory.members_after(version, entry_changes)
            return _Base(epoch, version, directory.chain, members, changes, entry_changes)

    def _seal(self, base: _Base) -> tuple[StoreCommit, bytes]:
        """Seal a commit; return it with the chain after it."""
        cipher, epoch, version = self._cipher, base.epoch, base.version
        puts, deletes = [], []
        for name, put in base.changes.items():
            record = cipher.id(*name)
            if put is None:
                deletes.append(record)
            else:
                label = cipher.seal_label(record, version, Label(*name, put.index))
                puts.append(StorePut(record, label, cipher.seal_value(record, version, put.value)))
        entry = cipher.seal_entry(epoch, base.chain, EntryContent(version, base.entry_changes))
        chain = cipher.link(base.chain, entry)
        head = cipher.seal_head(epoch, HeadContent(base.members.to_bytes(32, "big"), chain))
        return StoreCommit(epoch, version, head, entry, puts, deletes, max(0, epoch - KEPT_EPOCHS)), chain

    def _offer(self, base: _Base, commit: StoreCommit, chain: bytes, aside: _Aside) -> bool:
        """Send it to the host, and determine whether it was stored, whatever the host answers."""
        try:
            answer = self._host.begin_commit(commit)
            aside.run()
            committed = answer()
        except UnavailableError:
            if not self._is_there(commit, chain):
                raise
            return True
        if not committed:
            return self._is_there(commit, chain)
        with self._view.lock:
            if self._view.directory.epoch == commit.epoch - 1:
                self._view.directory.follow(commit.entry)
            known = self._view.directory.chain_at(commit.epoch)
        if known != chain:
            raise AuthenticityError(
                f"store: commit {commit.epoch}: want this enclave's, got another's",
                hint="the host shows its enclaves different histories",
                code="store_history",
            )
        self._view.wrote(commit, (name for name, put in base.changes.items() if put is not None))
        self._view.vouch_mine(aside.run)
        return True

    def _is_there(self, commit: StoreCommit, chain: bytes) -> bool:
        self._view.ask([])
        with self._view.lock:
            return self._view.directory.chain_at(commit.epoch) == chain


class _Aside:
    """Work in steps, each of which runs once while others work; its exception is raised at the end."""

    __slots__ = ("_error", "_steps")

    def __init__(self, steps: Iterable[Callable[[], None]]) -> None:
        self._steps = deque(steps)
        self._error: Exception | None = None

    def run(self) -> None:
        """Run the next step, unless one has raised."""
        if self._steps and self._error is None:
            try:
                self._steps.popleft()()
            except Exception as error:  # noqa: BLE001 - a commit under way is seen through first
                self._error = error

    def end(self) -> None:
        """Run the steps that are left, and raise the exception, if any."""
        while self._steps and self._error is None:
            self.run()
        if self._error is not None:
            raise self._error


class _Waiting:
    """A waiting transaction: committed, to run again, or failed."""

    __slots__ = ("committed", "error", "transaction")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.committed: bool | None = None
        self.error: KluisError | None = None


class _Base(NamedTuple):
    """The state that a commit is based on."""

    epoch: int
    version: bytes
    chain: bytes
    members: int
    changes: dict[Name, Put | None]
    entry_changes: list[Change]


def _all_again(batch: list[_Waiting]) -> None:
    for one in batch:
        one.committed = False


def _fail(batch: list[_Waiting], error: KluisError) -> None:
    for one in batch:
        if one.committed is None:
            one.error = error


CUT_SHORT: Final = "store: commit: was cut short, and may have been kept or not"
