"""The sealed store: records on an untrusted host, for code inside an enclave.

:mod:`kluis.enclave.store.model` describes its interface, and :mod:`~kluis.enclave.store.cipher` what is
sealed and how. docs/concepts/store.md lists what a host still sees: how many records there are, how large,
which were read and written together, and when.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from kluis.enclave.store.cipher import Cipher
from kluis.enclave.store.commits import Committer
from kluis.enclave.store.host import Host
from kluis.enclave.store.model import Writing
from kluis.enclave.store.records import MAX_IDS, Records, Rekeys
from kluis.enclave.store.rekeying import Moved, copy
from kluis.enclave.store.transaction import FORMER_KEYS, MovedInterrupt, Transaction, name_of
from kluis.enclave.store.view import View
from kluis.enclave.store.witness import UNDETECTED, Witness, Witnessed
from kluis.errors import UnavailableError

T = TypeVar("T")
TRIES: Final = 32
LONGEST_WAIT_SECONDS: Final = 0.25


class SealedStore:
    """A :class:`~kluis.enclave.store.model.Storage` kept by an untrusted host. Thread-safe.

    Args:
        records: the host's side.
        key: 32 bytes; anyone who has it can read and write the store.
        witness: stores the last commit beyond the host's reach; None: a complete rollback by the host is only
            detected by running instances.

    Attributes:
        rollback: what would detect a complete rollback by the host: its name, or ``undetected``.

    Raises:
        AuthenticityError: the host's data are not this store, complete and current.
        UnavailableError: the host does not answer.
    """

    def __init__(self, records: Records, key: bytes, *, witness: Witness | None = None) -> None:
        host, self._cipher = Host(records), Cipher(key)
        self.rollback: str = UNDETECTED if witness is None else witness.label
        self._view = View(host, self._cipher, witness)
        self._committer = Committer(host, self._cipher, self._view)

    def __repr__(self) -> str:
        return f"<SealedStore epoch={self.epoch} rollback={self.rollback!r}>"

    @property
    def epoch(self) -> int:
        """The number of commits that this instance has seen."""
        return self._view.last().epoch

    def last(self) -> Witnessed:
        """The last commit that this instance has seen, for another to compare its host's answers with."""
        return self._view.last()

    def copy_under(self, records: Rekeys, key: bytes) -> Moved:
        """Have the host collect all of it, sealed under another key (32 bytes), alongside the existing store.

        Raises:
            AuthenticityError, UnavailableError: as for :func:`kluis.enclave.store.rekeying.copy`.
        """
        return copy(records, self._view, self._cipher, Cipher(key))

    def former_keys(self) -> list[bytes]:
        """The public names, 32 bytes each, of its earlier keys."""
        return [bytes.fromhex(name.key) for name in self._view.names(FORMER_KEYS, "")[0]]

    def get(self, table: str, key: str) -> bytes | None:
        """As :meth:`kluis.enclave.store.model.Reading.get`."""
        name = name_of(table, key)
        return self._view.read([name])[0].get(name)

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        """As :meth:`kluis.enclave.store.model.Reading.scan`."""
        name_of(table, "any", index)
        names, first, _ = self._view.names(table, index, after)

        def pages() -> Iterator[tuple[str, bytes]]:
            values = dict(first)
            for at in range(0, len(names), MAX_IDS):
                page = names[at : at + MAX_IDS]
                missing = [name for name in page if name not in values]
                if missing:
                    values |= self._view.read(missing)[0]
                for name in page:
                    if name in values and self._view.holds(name, index):
                        yield name.key, values.pop(name)

        return pages()

    def update(self, work: Callable[[Writing], T], *meanwhile: Callable[[], None]) -> T:
        """As :meth:`kluis.enclave.store.model.Storage.update`.

        Cached reads in the transaction are not confirmed by the host before the commit. If others committed
        first, the commit is refused, and the witness detects a store that was rolled back.
        """
        for attempt in range(TRIES):
            transaction = Transaction(self._view)
            try:
                result = work(transaction)
            except MovedInterrupt:
                continue
            except Exception:
                if self._view.proves(transaction):
                    raise
                continue
            if transaction.changes:
                committed = self._committer.commit(transaction, *meanwhile)
            else:
                committed = self._view.proves(transaction)
            if committed:
                return result
            _wait(attempt)
        raise UnavailableError(
            f"store: update: others were first {TRIES} times", hint="try again", code="store_busy"
        )


def _wait(attempt: int) -> None:
    """Wait for a random part of a growing time, so that instances do not retry together."""
    most = min(LONGEST_WAIT_SECONDS, 0.001 * 2**attempt)
    threading.Event().wait(most * int.from_bytes(os.urandom(2), "big") / 0xFFFF)
