"""The interface of a store inside: tables of records, read singly or by index, changed in transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Reading(Protocol):
    """Reads records as of one moment, or newer; never older than this enclave has seen."""

    def get(self, table: str, key: str) -> bytes | None:
        """One record's value, or None.

        Raises:
            AuthenticityError: the host's answer is not the stored record: changed, under another key, or
                rolled back.
            UnavailableError: the host does not answer.
        """
        ...

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        """Key and value of every record of ``table`` with ``index``, in order of key; "" is all.

        Args:
            table: 1 to 64 characters.
            index: at most 512 characters.
            after: only keys that come after this one: to read a list in pages.

        Raises:
            AuthenticityError: a record is missing, changed, of another table, or rolled back.
            UnavailableError: the host does not answer.
        """
        ...


class Writing(Reading, Protocol):
    """Reads, and collects changes: its own reads see them, others see them after the commit."""

    def put(self, table: str, key: str, value: bytes, *, index: str = "") -> None:
        """Store ``value``, replacing an existing one.

        Args:
            table: 1 to 64 characters.
            key: 1 to 512 characters.
            value: at most 4 MiB.
            index: a further search key, at most 512 characters.
        """
        ...

    def delete(self, table: str, key: str) -> None:
        """Delete a record, if there is one."""
        ...


class Storage(Reading, Protocol):
    """A store.

    Attributes:
        rollback: what would detect a complete rollback by the host: its name, or ``undetected``.
    """

    rollback: str

    def update(self, work: Callable[[Writing], T], *meanwhile: Callable[[], None]) -> T:
        """Run ``work`` in a transaction: commit all its changes, or none.

        ``work`` may run more than once: if another instance committed first, it runs again on the new state.
        It must do nothing but read and write the store. If it raises, nothing is committed.

        Args:
            work: reads and writes.
            meanwhile: run after each run of ``work`` with changes, in order, the first one while the host
                writes and the second one while the witness is updated: for slow work that is useless before
                the changes are committed.

        Returns:
            The result of ``work``, once every change is on the host's disk.

        Raises:
            Exception: from ``work``, and nothing is committed; or from ``meanwhile``, and everything is.
            UnavailableError: others committed first too often, or the host's store is unreachable.
        """
        ...
