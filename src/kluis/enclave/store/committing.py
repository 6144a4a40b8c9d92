"""Committing: changes become one sealed commit, kept only if nobody else was first."""

from __future__ import annotations

import threading
from typing import Final

from kluis.enclave.store.asking import Host
from kluis.enclave.store.cipher import Change, Cipher, EntryContent, HeadContent, Label, make_version
from kluis.enclave.store.directory import Directory
from kluis.enclave.store.records import KEPT_EPOCHS, StoreCommit, StorePut
from kluis.enclave.store.transaction import Transaction
from kluis.enclave.store.view import View
from kluis.errors import AuthenticityError, UnavailableError

__all__ = ["Committer"]

TRIES: Final = 16


class Committer:
    """Commits transactions, one after the other. Thread-safe.

    Args:
        host: keeps the records.
        cipher: has the store's key.
        view: what this instance knows.
    """

    def __init__(self, host: Host, cipher: Cipher, view: View) -> None:
        self._host = host
        self._cipher = cipher
        self._view = view
        self._turn = threading.Lock()

    def commit(self, transaction: Transaction) -> bool:
        """Keep what a transaction changed.

        Returns:
            Whether it is kept; if not, what it has read was changed by others and it must run again.

        Raises:
            AuthenticityError: the host is found out.
            UnavailableError: it keeps nothing, or nobody knows whether it did.
        """
        with self._turn:
            for _ in range(TRIES):
                with self._view.lock:
                    directory = self._view.directory
                    if transaction.touched_by(directory):
                        return False
                    changes = _effective(transaction, directory)
                    if not changes:
                        return True
                    commit, chain = self._seal(transaction, changes, directory)
                if self._offer(commit, chain):
                    return True
        return False

    def _seal(
        self, transaction: Transaction, changes: list[Change], directory: Directory
    ) -> tuple[StoreCommit, bytes]:
        epoch = directory.epoch + 1
        version = make_version(epoch)
        entry = self._cipher.seal_entry(epoch, directory.chain, EntryContent(version, changes))
        chain = self._cipher.link(directory.chain, entry)
        members = directory.members_after(version, changes).to_bytes(32, "big")
        puts, deletes = [], []
        for name, put in transaction.changes.items():
            record = self._cipher.id(*name)
            if put is None:
                deletes.append(record)
            else:
                label = self._cipher.seal_label(record, version, Label(*name, put.index))
                puts.append(StorePut(record, label, self._cipher.seal_value(record, version, put.value)))
        head = self._cipher.seal_head(epoch, HeadContent(members, chain))
        return StoreCommit(epoch, version, head, entry, puts, deletes, max(0, epoch - KEPT_EPOCHS)), chain

    def _offer(self, commit: StoreCommit, chain: bytes) -> bool:
        """Have the host keep it, and find out whether it did whatever it says."""
        try:
            kept = self._host.commit(commit)
        except UnavailableError:
            if not self._is_there(commit, chain):
                raise
            kept = True
        if kept:
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
            self._view.vouch_mine()
            return True
        return self._is_there(commit, chain)

    def _is_there(self, commit: StoreCommit, chain: bytes) -> bool:
        self._view.ask([])
        with self._view.lock:
            return self._view.directory.chain_at(commit.epoch) == chain


def _effective(transaction: Transaction, directory: Directory) -> list[Change]:
    """The changes, without deletions of what is not there."""
    return [
        Change(*name, put.index if put else "", put is None)
        for name, put in transaction.changes.items()
        if put is not None or directory.held(name) is not None
    ]
