"""Hosts that share a database carry a store's key from one platform to another, and no further."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest

from kluis.enclave.store import ocalls
from kluis.errors import RemoteError, UnavailableError
from kluis.host.proxy import EnclaveProxy
from kluis.serve import handover
from kluis.serve.handover import KeyGivers
from kluis.serve.store import Database, keeping
from kluis.serve.store.mailbox import Mailbox, Step
from kluis.serve.store.statements import MOST_MESSAGES
from kluis.testing.plugin import enclave, other_platform, rehearsal_platform
from kluis.testing.rehearsal import RehearsalPlatform
from tests.databases import database_url, postgres

__all__ = ["database_url", "enclave", "other_platform", "postgres", "rehearsal_platform"]

KEEPER = Path(__file__).resolve().parents[1] / "enclave" / "store" / "keeper" / "app.py"
Launch = Callable[..., EnclaveProxy]


class Host:
    """One host: its own connection to the database that all share."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.records = keeping.records(self.database, "keeper")
        self.mailbox = Mailbox(self.records)
        self.functions = ocalls.serving(self.records)


@pytest.fixture
def hosts(database_url: str) -> Iterator[tuple[Host, Host]]:
    """Two of them."""
    made = Host(database_url), Host(database_url)
    yield made
    for one in made:
        one.database.close()


class Clock:
    """The machine's own, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty beats a second; an answer may take as long as a slow machine needs for it."""
    monkeypatch.setattr(handover, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(handover, "JOIN_SECONDS", 600.0)


Sleep = Callable[[float], None]


@contextmanager
def giving(host: Host, instance: EnclaveProxy, givers: KeyGivers | None = None) -> Iterator[Sleep]:
    """A host whose command answers, as ``kluis serve`` does each second.

    Gives a ``sleep`` that ends once the host has answered twice more: the second time it began meanwhile.
    """
    givers = givers or KeyGivers(host.mailbox)
    stop, turns = threading.Event(), threading.Condition()
    count = 0

    def run() -> None:
        nonlocal count
        while not stop.wait(2 * handover.BEAT_SECONDS):
            givers.serve(instance)
            with turns:
                count += 1
                turns.notify_all()

    def sleep(_: float) -> None:
        with turns:
            enough = count + 2
            assert turns.wait_for(lambda: count >= enough, 300), "the host stopped answering"

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sleep
    finally:
        stop.set()
        thread.join()
        givers.close()


def at_once(_: float) -> None:
    """Sleep not at all: nobody is waited for who might still come."""


def test_a_database_that_is_away_ends_no_command_otherwise(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn reports it, and not every other one; and leaving sends no request."""
    givers, away = KeyGivers(hosts[0].mailbox), UnavailableError("database: is away")
    with monkeypatch.context() as patched:
        patched.setattr(handover, "BEAT_SECONDS", 3600.0)
        patched.setattr(hosts[0].mailbox, "post", Mock(side_effect=away))
        for _ in range(3):
            with pytest.raises(UnavailableError, match="is away"):
                givers.serve(Mock())
        clear = Mock(side_effect=away)
        patched.setattr(hosts[0].mailbox, "clear", clear)
        givers.close()
        clear.assert_not_called()
    givers.serve(Mock())
    with monkeypatch.context() as patched:
        patched.setattr(hosts[0].mailbox, "clear", clear)
        givers.close()
        clear.assert_called_once()
    assert len(hosts[1].mailbox.read(Step.BEAT)) == 1
    givers.close()
    assert hosts[1].mailbox.read(Step.BEAT) == {}


def test_an_instance_on_another_platform_opens_the_store(
    enclave: Launch, hosts: tuple[Host, Host], rehearsal_platform: RehearsalPlatform, tmp_path: Path
) -> None:
    """It sends a request in the database, is judged, gets the key, and reads the records; no message is
    left.
    """
    sister = RehearsalPlatform(tmp_path / "sister", datetime.now(UTC), rehearsal_platform.authority)
    giver = enclave(KEEPER, ocalls=hosts[0].functions)
    giver.put("k", b"v")
    joiner, said = enclave(KEEPER, on=sister, ocalls=hosts[1].functions), list[str]()
    with giving(hosts[0], giver) as sleep:
        handover.open_store(joiner, hosts[1].mailbox, said.append, sleep)
    assert said == ["asking an instance on another platform for the store's key"]
    assert joiner.get("k") == b"v"
    assert [hosts[0].mailbox.read(step) for step in Step] == [{}] * len(Step)
    again = enclave(KEEPER, on=sister, ocalls=hosts[1].functions)
    handover.open_store(again, hosts[1].mailbox, said.append)
    assert len(said) == 1


def test_without_anybody_who_has_it_the_store_stays_closed(
    enclave: Launch, hosts: tuple[Host, Host], rehearsal_platform: RehearsalPlatform, tmp_path: Path
) -> None:
    """Without a beat, or with one of a host that is gone, the first error is raised, at once."""
    sister = RehearsalPlatform(tmp_path / "sister", datetime.now(UTC), rehearsal_platform.authority)
    giver = enclave(KEEPER, ocalls=hosts[0].functions)
    giver.put("k", b"v")
    hosts[0].mailbox.post(bytes(16), Step.BEAT, b"long ago")
    joiner = enclave(KEEPER, on=sister, ocalls=hosts[1].functions)
    with pytest.raises(RemoteError, match="store: its key is sealed to another image") as refused:
        handover.open_store(joiner, hosts[1].mailbox, print, at_once)
    assert refused.value.inner_code == "store_waiting"


@pytest.mark.parametrize("step", [Step.BEAT, Step.WANTED])
def test_more_dead_than_are_read_at_once(
    enclave: Launch,
    hosts: tuple[Host, Host],
    rehearsal_platform: RehearsalPlatform,
    tmp_path: Path,
    step: Step,
) -> None:
    """Messages of killed clients, however many, hide no giving host and no joiner's request.

    The clock of the giving host is set ahead, once it has seen the dead and before a joiner's request.
    """
    clock = Clock()
    givers = KeyGivers(hosts[0].mailbox, clock)
    sister = RehearsalPlatform(tmp_path / "sister", datetime.now(UTC), rehearsal_platform.authority)
    giver = enclave(KEEPER, ocalls=hosts[0].functions)
    giver.put("k", b"v")
    for number in range(MOST_MESSAGES + 50):
        hosts[0].mailbox.post(number.to_bytes(16, "big"), step, b"")
    joiner = enclave(KEEPER, on=sister, ocalls=hosts[1].functions)
    givers.serve(giver)
    clock.ahead = handover.DEAD_SECONDS + 1
    with giving(hosts[0], giver, givers) as sleep:
        handover.open_store(joiner, hosts[1].mailbox, print, sleep)
    assert joiner.get("k") == b"v"


def test_who_is_not_alike_is_refused_and_told_so(
    enclave: Launch, hosts: tuple[Host, Host], other_platform: RehearsalPlatform
) -> None:
    """A platform of another authority gets nothing, and its host reads why."""
    giver = enclave(KEEPER, ocalls=hosts[0].functions)
    giver.put("k", b"v")
    joiner = enclave(KEEPER, on=other_platform, ocalls=hosts[1].functions)
    with (
        giving(hosts[0], giver) as sleep,
        pytest.raises(
            UnavailableError, match="store key: an instance elsewhere refused it: AuthenticityError"
        ),
    ):
        handover.open_store(joiner, hosts[1].mailbox, print, sleep)
    assert hosts[0].mailbox.read(Step.REQUEST) == {}


def test_rubbish_in_the_database_harms_nobody(
    enclave: Launch, hosts: tuple[Host, Host], rehearsal_platform: RehearsalPlatform, tmp_path: Path
) -> None:
    """A malformed request is refused, a malformed answer opens nothing, and the giver goes on."""
    sister = RehearsalPlatform(tmp_path / "sister", datetime.now(UTC), rehearsal_platform.authority)
    giver = enclave(KEEPER, ocalls=hosts[0].functions)
    giver.put("k", b"v")
    with giving(hosts[0], giver) as sleep:
        hosts[1].mailbox.post(b"r" * 16, Step.WANTED)
        end = threading.Event()
        while b"r" * 16 not in hosts[1].mailbox.read(Step.CHALLENGE):
            end.wait(0.02)
        hosts[1].mailbox.post(b"r" * 16, Step.REQUEST, b"\xff rubbish")
        while b"r" * 16 not in hosts[1].mailbox.read(Step.REFUSED):
            end.wait(0.02)
        joiner = enclave(KEEPER, on=sister, ocalls=hosts[1].functions)
        handover.open_store(joiner, hosts[1].mailbox, print, sleep)
    assert joiner.get("k") == b"v"
