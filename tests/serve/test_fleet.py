"""A service's instances: all or none start, and the old go on until the new serve."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from kluis.errors import EnclaveError, KluisError, UnavailableError
from kluis.serve import launching
from kluis.serve.fleet import DRAIN_SECONDS, Fleet
from kluis.serve.instance import Instance


class Stand:
    """Replaces an instance, and records its calls."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.drained: float | None = None
        self.why: KluisError | None = None
        self.names = 0
        self.knocks: list[KluisError | None] = []

    def tend(self) -> KluisError | None:
        """Do what is due."""
        self.knocks.append(self.why)
        return self.why

    def fault(self) -> KluisError | None:
        """Why it ended."""
        return self.why

    def drain(self, seconds: float) -> None:
        """End it."""
        self.drained = seconds

    def rename(self, name: Any) -> None:
        """Show another certificate."""
        self.names += 1


class Starter:
    """Starts replacements, until the test stops it."""

    def __init__(self) -> None:
        self.made: list[Stand] = []
        self.most = 100
        self.lock = threading.Lock()

    def __call__(self) -> Instance:
        if len(self.made) >= self.most:
            raise UnavailableError("no more")
        self.made.append(Stand(len(self.made)))
        return cast("Instance", self.made[-1])


@pytest.fixture
def starter() -> Starter:
    """One."""
    return Starter()


def numbers(fleet: Fleet) -> list[int]:
    """Which run."""
    return [cast("Stand", one).number for one in fleet.instances]


def test_all_start_or_none_runs(starter: Starter) -> None:
    """If one does not start, those that did are ended."""
    starter.most = 2
    fleet = Fleet("x", starter, 3)
    with pytest.raises(UnavailableError):
        fleet.start()
    assert [one.drained for one in starter.made] == [0.0, 0.0]


def test_new_ones_serve_before_old_ones_end(starter: Starter) -> None:
    """A replacement starts all new ones, then lets the old ones finish."""
    fleet = Fleet("x", starter, 2)
    fleet.start()
    fleet.replace()
    assert numbers(fleet) == [2, 3]
    assert [one.drained for one in starter.made] == [DRAIN_SECONDS, DRAIN_SECONDS, None, None]


def test_a_replacement_that_does_not_start_leaves_the_old_ones(starter: Starter) -> None:
    """The old ones go on, and the new ones are ended."""
    fleet = Fleet("x", starter, 2)
    fleet.start()
    starter.most = 3
    with pytest.raises(UnavailableError):
        fleet.replace()
    assert numbers(fleet) == [0, 1]
    assert [one.drained for one in starter.made] == [None, None, 0.0]


def test_one_that_ended_is_replaced_and_why_is_told(starter: Starter) -> None:
    """Each that ended by itself gives its reason and its place."""
    fleet = Fleet("x", starter, 2)
    fleet.start()
    assert fleet.repair() == []
    starter.made[0].why = fault = EnclaveError("ended")
    assert fleet.repair() == [fault]
    assert numbers(fleet) == [1, 2]


def test_why_one_ended_is_told_once_its_place_is_taken(starter: Starter) -> None:
    """A failed restart is repeated, and then the reason why the old one ended is reported."""
    fleet = Fleet("x", starter, 2)
    fleet.start()
    starter.made[0].why = fault = EnclaveError("ended")
    starter.most = 2
    for _ in range(2):
        with pytest.raises(UnavailableError):
            fleet.repair()
    assert numbers(fleet) == [1]
    starter.most = 3
    assert fleet.repair() == [fault]
    assert numbers(fleet) == [1, 2]
    assert fleet.repair() == []


def test_a_new_certificate_is_shown_by_all(starter: Starter) -> None:
    """Every instance takes it."""
    fleet = Fleet("x", starter, 2)
    fleet.start()
    fleet.rename(lambda request: request)
    assert [one.names for one in starter.made] == [1, 1]


def test_all_do_what_is_due(starter: Starter) -> None:
    """Each gets its turn, whatever the result of another's last one."""
    fleet = Fleet("x", starter, 2)
    fleet.start()
    starter.made[0].why = fault = EnclaveError("away")
    assert fleet.tend() == [fault]
    assert [one.knocks for one in starter.made] == [[fault], [None]]


def test_stopping_lets_what_runs_end(starter: Starter) -> None:
    """All are drained, and nothing is left."""
    fleet = Fleet("x", starter, 2)
    fleet.start()
    fleet.stop()
    assert numbers(fleet) == []
    assert [one.drained for one in starter.made] == [DRAIN_SECONDS, DRAIN_SECONDS]


def test_all_services_end_at_once() -> None:
    """Each may take half a minute for what it has; a stop takes as long as the longest, and not their sum."""
    together = threading.Barrier(3)

    class Waits(Stand):
        def drain(self, seconds: float) -> None:
            together.wait(300)
            super().drain(seconds)

    made = [Waits(number) for number in range(3)]
    fleets = [Fleet("x", lambda one=one: cast("Instance", one), 1) for one in made]
    for fleet in fleets:
        fleet.start()
    launching.stop_all([*fleets, Fleet("not started", lambda: cast("Instance", made[0]), 1)])
    assert [one.drained for one in made] == [DRAIN_SECONDS] * 3
