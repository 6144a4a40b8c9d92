"""Who is at a database is seen before its keys change, and who changes them before anybody starts."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.serve import presence
from kluis.serve.plan import Plan
from kluis.serve.presence import Presence, Stores
from kluis.serve.store import Database, keeping
from kluis.serve.store.mailbox import Mailbox, Step
from kluis.serve.store.statements import MOST_MESSAGES
from tests.databases import database_url, postgres

__all__ = ["database_url", "postgres"]

SINCE = 1_790_000_000
ME = f"{platform.node()} (process {os.getpid()}, since 2026-09-21 14:13:20 UTC)"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty beats a second."""
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)


class Beating(Presence):
    """Counts its beats, so that a test waits for the next one and not for some time."""

    here: ClassVar[list[Beating]] = []

    def __enter__(self) -> Self:
        self.beats = 0
        made = super().__enter__()
        self.here.append(self)
        return made

    def __exit__(self, *about: Any) -> None:
        self.here.remove(self)
        super().__exit__(*about)

    def _say(self) -> None:
        super()._say()
        self.beats += 1


def a_beat_later(_: float) -> None:
    """Sleep until every running host has beaten once more."""
    end = time.monotonic() + 300
    for one in Beating.here:
        enough = one.beats + 2  # the first may have been on its way
        while one.beats < enough:
            assert time.monotonic() < end, "a command stopped beating"
            time.sleep(0.01)


def refuse_present(stores: Stores) -> None:
    presence.refuse_present(stores, a_beat_later)


def refuse_changing(stores: Stores) -> None:
    presence.refuse_changing(stores, a_beat_later)


@pytest.fixture
def commands(database_url: str) -> Iterator[tuple[Stores, Stores]]:
    """Two commands at the two stores of one database."""
    with Database(database_url) as one, Database(database_url) as other:
        yield (
            Stores([Mailbox(keeping.records(one, name)) for name in ("keyvault", "attestation")]),
            Stores([Mailbox(keeping.records(other, name)) for name in ("keyvault", "provisioning")]),
        )


def refused(check: object, stores: Stores) -> str:
    """What one hears who may not go on."""
    with pytest.raises(UnavailableError) as error:
        check(stores)  # type: ignore[operator]
    assert error.value.code == "state_in_use"
    return error.value.message


def test_nobody_is_there(commands: tuple[Stores, Stores]) -> None:
    """Where nobody ever was there is nothing to wait for; oneself is nobody else."""
    one, _ = commands
    slept: list[float] = []
    with Presence(one, Step.REKEYING, SINCE), Presence(one, Step.PRESENT, SINCE):
        presence.refuse_present(one, slept.append)
        presence.refuse_changing(one, slept.append)
    assert slept == []


def test_who_is_there_is_named(commands: tuple[Stores, Stores]) -> None:
    """A change of keys is refused while another host runs; a start only during a change."""
    one, other = commands
    with Beating(one, Step.PRESENT, SINCE):
        assert refused(refuse_present, other) == (f"database: want nobody else at its stores, got {ME}")
        refuse_changing(other)
    refuse_present(other)
    with Beating(one, Step.REKEYING, SINCE):
        assert refused(refuse_changing, other) == (f"database: the stores' keys are being changed, by {ME}")
        assert "nobody else at its stores" in refused(refuse_present, other)
    refuse_changing(other)


def test_who_is_at_another_store_is_nobody(commands: tuple[Stores, Stores]) -> None:
    """Only the stores that both use count."""
    one, other = commands
    elsewhere = Stores(other.mailboxes[1:])
    with Beating(elsewhere, Step.PRESENT, SINCE):
        refuse_present(one)


def test_the_dead_are_forgotten(commands: tuple[Stores, Stores]) -> None:
    """A killed host's entry is waited for once, and then removed; the living stay."""
    one, other = commands
    one.mailboxes[0].post(b"d" * 16, Step.PRESENT, b"dead")
    one.mailboxes[0].post(b"d" * 16, Step.WANTED, b"a handover's own")
    refuse_present(other)
    assert one.mailboxes[0].read(Step.PRESENT) == {}
    assert one.mailboxes[0].read(Step.WANTED) == {b"d" * 16: b"a handover's own"}
    with Beating(one, Step.PRESENT, SINCE):
        one.mailboxes[0].post(b"d" * 16, Step.PRESENT, b"dead")
        assert refused(refuse_present, other).endswith(f"got {ME}")
        assert one.mailboxes[0].read(Step.PRESENT).keys() == {one.name}


def test_more_dead_than_are_read_at_once(commands: tuple[Stores, Stores]) -> None:
    """However many were killed there, the living are seen behind what those left."""
    one, other = commands
    one.mailboxes[0].post(b"\xff" * 16, Step.PRESENT, b"dead")
    for number in range(MOST_MESSAGES + 50):
        one.mailboxes[0].post(number.to_bytes(16, "big"), Step.PRESENT, b"dead")
    alive = Stores(one.mailboxes, b"\xfe" * 16)
    with Beating(alive, Step.PRESENT, SINCE):
        assert refused(refuse_present, other).endswith(f"got {ME}")
    refuse_present(other)
    assert one.mailboxes[0].read(Step.PRESENT) == {}


def test_an_earlier_version_beats_and_says_no_more(
    commands: tuple[Stores, Stores], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A giver's beat counts as well, whatever is in it; what is said is shown as far as it can be."""
    one, other = commands
    real = presence._read_posts

    def heard(stores: Stores, steps: tuple[Step, ...]) -> object:
        for number in range(6):
            one.mailboxes[0].post(b"%016d" % number, Step.BEAT, os.urandom(8))
        return real(stores, steps)

    monkeypatch.setattr(presence, "_read_posts", heard)
    assert refused(refuse_present, other) == (
        "database: want nobody else at its stores, got one that does not say who it is"
    )


def test_a_database_that_is_away_for_a_while(
    commands: tuple[Stores, Stores], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that cannot write its beat writes it again later."""
    one, other = commands
    real, failed = Mailbox.post, list[int]()

    def post(self: Mailbox, joiner: bytes, step: Step, body: bytes = b"") -> None:
        if failed and len(failed) < 3 and joiner == one.name:
            failed.append(1)
            raise UnavailableError("database: away")
        real(self, joiner, step, body)

    monkeypatch.setattr(Mailbox, "post", post)
    with Beating(one, Step.PRESENT, SINCE):
        failed.append(1)
        while len(failed) < 3:
            time.sleep(0.01)
        assert ME in refused(refuse_present, other)


def test_beside_others_goes_with_rekey(tmp_path: Path) -> None:
    """The exception has no effect by itself."""
    with pytest.raises(
        UsageError, match=re.escape("--rekey-beside-others: want also --rekey, got no such option")
    ):
        Plan(services=("keyvault",), state=tmp_path, rekey_beside_others=True)


@pytest.mark.parametrize("error", [UnavailableError("database: away"), RuntimeError("a bug")])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_connection_stays(database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever a database answers to the last word, the thread that said it leaves no connection open."""

    def refuse(self: Mailbox, joiner: bytes, step: Step) -> None:
        raise error

    monkeypatch.setattr(Mailbox, "take_back", refuse)
    with Database(database_url) as database:
        stores = Stores([Mailbox(keeping.records(database, name)) for name in ("keyvault", "attestation")])
        before = set(database._all)
        with Presence(stores, Step.PRESENT, SINCE):
            while len(database._all) == len(before):  # until the thread has its own
                time.sleep(0.01)
        assert set(database._all) == before
