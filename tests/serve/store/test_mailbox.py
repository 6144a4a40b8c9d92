"""Messages between hosts: replaced by step, read by step, bounded, and forgotten."""

from __future__ import annotations

import pytest

from kluis.errors import UsageError
from kluis.serve.store import Database, keeping
from kluis.serve.store.mailbox import Mailbox, Step

ONE, TWO = bytes(16), bytes([1]) * 16


def test_messages_are_kept_by_joiner_and_step(database_url: str) -> None:
    """A later message of a joiner's step takes the place of the earlier; another store sees none."""
    with Database(database_url) as database, Database(database_url) as other:
        mine, theirs = Mailbox(keeping.records(database, "a")), Mailbox(keeping.records(other, "a"))
        mine.post(ONE, Step.WANTED)
        mine.post(TWO, Step.WANTED, b"x")
        theirs.post(ONE, Step.CHALLENGE, b"first")
        theirs.post(ONE, Step.CHALLENGE, b"second")
        assert theirs.read(Step.WANTED) == {ONE: b"", TWO: b"x"}
        assert mine.read(Step.CHALLENGE) == {ONE: b"second"}
        assert Mailbox(keeping.records(other, "b")).read(Step.WANTED) == {}
        mine.clear(ONE)
        assert theirs.read(Step.WANTED) == {TWO: b"x"}
        assert theirs.read(Step.CHALLENGE) == {}


def test_messages_are_bounded(database_url: str) -> None:
    """No body above a mebibyte, and no name of another length."""
    with Database(database_url) as database:
        mailbox = Mailbox(keeping.records(database, "a"))
        for joiner, body in ((b"short", b""), (ONE, bytes((1 << 20) + 1))):
            with pytest.raises(
                UsageError, match="message: want a joiner of 16 bytes and a body of 1 MiB at most"
            ):
                mailbox.post(joiner, Step.REQUEST, body)
