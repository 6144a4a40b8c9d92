"""``kluis serve`` while it runs: what ends, what is away, and a stop before anything serves."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from kluis.cli import serve
from kluis.errors import EnclaveError, KluisError, UnavailableError

if TYPE_CHECKING:
    from kluis.services.running.serving import Serving


class Running:
    """Stands where the services run: what it is told to raise, and which instances ended."""

    fleets = ()

    def __init__(self, turns: list[Exception | list[tuple[str, KluisError]]], asked: serve._Asked) -> None:
        self._turns, self._asked = turns, asked
        self.waits: list[list[tuple[str, KluisError]]] = []

    def hand_over(self) -> None:
        """Nobody waits."""

    def tend(self) -> list[tuple[str, KluisError]]:
        """What waits the next time; nothing after the last."""
        return self.waits.pop(0) if self.waits else []

    def mend(self) -> list[tuple[str, KluisError]]:
        """The next turn; after the last, the command is asked to stop."""
        turn = self._turns.pop(0)
        self._asked.stop = not self._turns
        if isinstance(turn, Exception):
            raise turn
        return turn


def watch(
    turns: list[Exception | list[tuple[str, KluisError]]], *waits: list[tuple[str, KluisError]]
) -> list[list[tuple[str, KluisError]]]:
    """Watch over them; what they were not asked for."""
    asked, wake = serve._Asked(), threading.Event()
    running = Running(turns, asked)
    running.waits.extend(waits)
    serve._watch(cast("Serving", running), wake, asked)
    return running.waits


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between turns."""
    monkeypatch.setattr(serve, "LOOK_SECONDS", 0.0)


def test_what_is_away_for_a_while_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A database that does not answer is told of once, and again only after it did."""
    away = UnavailableError("database: is away", code="store_database")
    watch([away, away, [], away, []])
    assert capsys.readouterr().err.count("kluis: error: database: is away") == 2


def test_enclaves_that_end_again_and_again_end_the_command() -> None:
    """The fifth end within minutes is raised; as many over a long time are not."""
    fault = EnclaveError("it stopped serving")
    with pytest.raises(EnclaveError, match="it stopped serving"):
        watch([[("keyvault", fault)]] * 5 + [[]])
    watch([[("keyvault", fault)]] * 4 + [[]])


def test_as_many_ends_over_a_long_time_are_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is made good, and nothing ends."""
    monkeypatch.setattr(serve, "FAULT_SECONDS", 0.0)
    watch([[("keyvault", EnclaveError("it stopped serving"))]] * 9)


def test_services_are_asked_to_do_what_is_due(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and then by the calendar of the command; what waits is told once, until it waits no more."""
    away = [("keyvault", UnavailableError("store: is away"))]
    assert watch([[]] * 3, away, away) == [away]
    monkeypatch.setattr(serve, "TEND_SECONDS", -1.0)
    assert watch([[]] * 5, away, away, [], away) == []
    line = "kluis: keyvault: what is due waits: store: is away"
    assert capsys.readouterr().err.count(line) == 3


def test_a_stop_before_anything_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM while images are built ends the command there, and does not wait until all is up."""

    @contextlib.contextmanager
    def building(*arguments: object) -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield pytest.fail("it went on")

    monkeypatch.setattr(serve, "serving", building)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        serve._run(cast("Any", None))
    assert signal.getsignal(signal.SIGTERM) is before
