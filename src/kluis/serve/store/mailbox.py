"""Messages between hosts that share one store's database, for handing over its key.

Anyone who can write to the database can write here: the receiving enclaves judge the messages
(:mod:`kluis.enclave.store.keys.handover`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kluis.errors import UnavailableError, UsageError
from kluis.serve.store.database import Database
from kluis.serve.store.faults import unavailable
from kluis.serve.store.keeping import KeptRecords

MAX_BODY_BYTES: Final = 1 << 20
JOINER_BYTES: Final = 16


class Step(enum.IntEnum):
    """The messages of one handover, in order; and heartbeats."""

    BEAT = 0
    """From a running giver; its ``joiner`` is the giver's name."""
    WANTED = 1
    CHALLENGE = 2
    REQUEST = 3
    GIFT = 4
    REFUSED = 5
    PRESENT = 6
    """From a command that uses the store, or is about to; its ``joiner`` is the command's name."""
    REKEYING = 7
    """From a command that changes the store's key; its ``joiner`` is the command's name."""


class Mailbox:
    """The messages of one store.

    Args:
        records: of the store.
    """

    def __init__(self, records: KeptRecords) -> None:
        self._database: Database = records.database
        self._store = records.number
        self._made = records.database.statements

    def post(self, joiner: bytes, step: Step, body: bytes = b"") -> None:
        """Write a message, replacing one of the same joiner and step.

        Args:
            joiner: 16 bytes, made for this handover.
            step: the kind of message.
            body: at most 1 MiB.

        Raises:
            UsageError: out of bounds.
            UnavailableError: the database is unreachable.
        """
        if len(joiner) != JOINER_BYTES or len(body) > MAX_BODY_BYTES:
            raise UsageError(f"message: want a joiner of {JOINER_BYTES} bytes and a body of 1 MiB at most")
        post = self._made.post
        values = post.bind(store=self._store, joiner=joiner, step=int(step), body=body)
        with self._asking() as cursor:
            cursor.execute(post.text, values)

    def read(self, step: Step) -> dict[bytes, bytes]:
        """Messages of one step, by joiner: at most 256; if there are more, any of them.

        Raises:
            UnavailableError: the database is unreachable.
        """
        statements = self._made.messages
        with self._asking() as cursor:
            rows = cursor.execute(
                statements.text, statements.bind(store=self._store, step=int(step))
            ).fetchall()
        return {bytes(joiner): bytes(body) for joiner, body in rows}

    def find(self, joiner: bytes, step: Step) -> bytes | None:
        """One joiner's message of one step, or None.

        Raises:
            UnavailableError: the database is unreachable.
        """
        find = self._made.message
        with self._asking() as cursor:
            row = cursor.execute(
                find.text, find.bind(store=self._store, joiner=joiner, step=int(step))
            ).fetchone()
        return None if row is None else bytes(row[0])

    def take_back(self, joiner: bytes, step: Step) -> None:
        """Delete one message.

        Raises:
            UnavailableError: the database is unreachable.
        """
        forget = self._made.forget_message
        with self._asking() as cursor:
            cursor.execute(forget.text, forget.bind(store=self._store, joiner=joiner, step=int(step)))

    def leave(self) -> None:
        """Close this thread's connection, after its last request."""
        self._database.forget()

    def clear(self, joiner: bytes) -> None:
        """Delete all messages of one joiner.

        Raises:
            UnavailableError: the database is unreachable.
        """
        forget = self._made.forget_messages
        with self._asking() as cursor:
            cursor.execute(forget.text, forget.bind(store=self._store, joiner=joiner))

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            with unavailable():
                yield self._database.cursor()
        except UnavailableError:
            self._database.forget()  # a connection that broke is of no more use
            raise
