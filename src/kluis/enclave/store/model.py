"""What a store is to the code inside: tables of records, read one by one or by index, changed all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Reading(Protocol):
    """Reads records as they were at one moment, or newer; never older than this enclave has seen."""

    def get(self, table: str, key: str) -> bytes | None:
        """One record's value, or None.

        Raises:
            AuthenticityError: what the host gave is not what was put: changed, of another key, or set back.
            UnavailableError: the host gives nothing.
        """
        ...

    def scan(self, table: str, index: str = "", *, after: str = "") -> Iterator[tuple[str, bytes]]:
        """Key and value of every record of ``table`` that was put with ``index``, in order of key; "" is all.

        Args:
            table: 1 to 64 characters.
            index: at most 512 characters.
            after: only keys that come after this one: for a list that is read in pages.

        Raises:
            AuthenticityError: a record is missing, changed, of another table, or set back.
            UnavailableError: the host gives nothing.
        """
        ...


class Writing(Reading, Protocol):
    """Reads, and collects changes: its own reads see them, others see them once all are kept."""

    def put(self, table: str, key: str, value: bytes, *, index: str = "") -> None:
        """Keep ``value``, in place of what was there.

        Args:
            table: 1 to 64 characters.
            key: 1 to 512 characters.
            value: at most 4 MiB.
            index: what else to find it by, at most 512 characters.
        """
        ...

    def delete(self, table: str, key: str) -> None:
        """Forget a record; nothing if there is none."""
        ...


class Storage(Reading, Protocol):
    """A store.

    Attributes:
        rollback: who would notice if the host set everything back: ``undetected``, or by what.
    """

    rollback: str

    def update(self, work: Callable[[Writing], T], meanwhile: Callable[[], None] | None = None) -> T:
        """Run ``work`` and keep all that it put and deleted, or nothing.

        ``work`` may run more than once: again, on what is there by then, if another instance was first. It
        must do nothing but read and write the store. What it raises is raised, and nothing is kept.

        Args:
            work: reads and writes.
            meanwhile: runs after each run of ``work`` that changes something, while the host writes: for what
                needs the time and is of no use before the changes are kept.

        Returns:
            What ``work`` returned, once every change is on the host's disk.

        Raises:
            Exception: what ``work`` raised, and nothing is kept; or ``meanwhile``, and all is.
            UnavailableError: others were first too often, or the host keeps nothing.
        """
        ...
