"""``kluis serve`` while it runs: ended enclaves, unavailable services, and a stop before it serves."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from kluis.cli.service import serve_run
from kluis.cli.signals import Asked
from kluis.errors import EnclaveError, KluisError, UnavailableError
from kluis.serve.plan import Plan

if TYPE_CHECKING:
    from kluis.serve.start import Serving


class Running:
    """Replaces the running services: raises what a test sets, and records which instances ended."""

    fleets = ()

    def __init__(self, turns: list[Exception | list[tuple[str, KluisError]]], asked: Asked) -> None:
        self._turns, self._asked = turns, asked
        self.waits: list[list[tuple[str, KluisError]]] = []
        self.away: KluisError | None = None
        self.renamed = 0

    def rename(self) -> None:
        """Present new certificates, or fail as the database."""
        self.renamed += 1
        self.hand_over()

    def hand_over(self) -> None:
        """Hand over to no joiner, or fail as the database."""
        if self.away is not None:
            raise self.away

    def tend(self) -> list[tuple[str, KluisError]]:
        """What waits the next time; nothing after the last."""
        return self.waits.pop(0) if self.waits else []

    def repair(self) -> list[tuple[str, KluisError]]:
        """The next turn; after the last, the command gets a stop."""
        turn = self._turns.pop(0)
        self._asked.stop = not self._turns
        if isinstance(turn, Exception):
            raise turn
        return turn


def watch(
    turns: list[Exception | list[tuple[str, KluisError]]],
    *waits: list[tuple[str, KluisError]],
    away: KluisError | None = None,
) -> Running:
    """Watch over them, to the last turn."""
    asked = Asked()
    running = Running(turns, asked)
    running.waits.extend(waits)
    running.away = away
    serve_run._watch(cast("Serving", running), asked)
    return running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between turns."""
    monkeypatch.setattr(serve_run, "LOOK_SECONDS", 0.0)


def test_what_is_away_for_a_while_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A temporarily unavailable database is reported once, and again only after it answered."""
    away = UnavailableError("database: is away", code="store_database")
    watch([away, away, [], away, []])
    assert capsys.readouterr().err.count("kluis: error: database: is away") == 2


def test_what_can_be_done_meanwhile_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no key can be handed over, ended enclaves are replaced, and certificates renewed; reported
    once.
    """
    monkeypatch.setattr(serve_run, "RENEW_SECONDS", -1.0)
    ended = ("keyvault", EnclaveError("it stopped serving"))
    running = watch([[], [ended], []], away=UnavailableError("database: is away"))
    assert running.renamed == 3
    told = capsys.readouterr().err
    assert told.count("kluis: error: database: is away") == 1
    assert told.count("keyvault: an enclave ended and was restarted: it stopped serving") == 1


def test_all_that_end_with_their_platform_are_one_end() -> None:
    """Six enclaves that end at once, four times within minutes, end nothing."""
    all_of_them = [(service, EnclaveError("ended with the platform")) for service in ("a", "b", "c") * 2]
    watch([all_of_them] * 4 + [[]])
    with pytest.raises(EnclaveError, match="ended with the platform"):
        watch([all_of_them] * 5 + [[]])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError()])
def test_a_log_that_takes_no_line(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """Serving continues if the log's disk is full, or its reader is gone."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(serve_run.render, "note", full)
    ended: list[tuple[str, KluisError]] = [("keyvault", EnclaveError("it stopped serving"))]
    away = UnavailableError("database: is away")
    assert watch([ended, away, []], ended, ended).waits == [ended]


def test_enclaves_that_end_again_and_again_end_the_command() -> None:
    """The fifth end within minutes is raised; as many over a long time are not."""
    fault = EnclaveError("it stopped serving")
    with pytest.raises(EnclaveError, match="it stopped serving"):
        watch([[("keyvault", fault)]] * 5 + [[]])
    watch([[("keyvault", fault)]] * 4 + [[]])


def test_as_many_ends_over_a_long_time_are_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is made good, and nothing ends."""
    monkeypatch.setattr(serve_run, "FAULT_SECONDS", 0.0)
    watch([[("keyvault", EnclaveError("it stopped serving"))]] * 9)


def test_services_are_asked_to_do_what_is_due(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks run at once, and then by the command's calendar; a waiting one is reported once."""
    away = [("keyvault", UnavailableError("store: is away"))]
    assert watch([[]] * 3, away, away).waits == [away]
    monkeypatch.setattr(serve_run, "TEND_SECONDS", -1.0)
    assert watch([[]] * 5, away, away, [], away).waits == []
    line = "kluis: keyvault: what is due waits: store: is away"
    assert capsys.readouterr().err.count(line) == 3


def test_a_stop_before_anything_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM while images are built ends the command there, and does not wait until all is up."""

    @contextlib.contextmanager
    def building(*arguments: object, **named: object) -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield pytest.fail("it went on")

    monkeypatch.setattr(serve_run, "serving", building)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        serve_run.run(Plan(services=("attestation",), state=Path("state")))
    assert signal.getsignal(signal.SIGTERM) is before
