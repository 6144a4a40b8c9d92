"""A failed request is not repeated at once, and callers meanwhile get the reason."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kluis.errors import AuthenticityError, KluisError, RemoteError, UnavailableError
from kluis.services import backoff
from kluis.services.backoff import Backoff


class Time:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 1000.0
        monkeypatch.setattr(backoff, "monotonic", lambda: self.at)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock."""
    return Time(monkeypatch)


def told(held: Backoff, ask: Callable[[], Any], what: object = "it") -> str:
    """The error of a caller during the wait."""
    with pytest.raises(KluisError) as error:
        held.attempt(what, ask)
    return error.value.message


def test_it_is_asked_for_later_each_time(time: Time) -> None:
    """After 1, 2, 4 .. 32, 60 and 60 seconds; in between the last error is raised, with its code and hint."""
    held, asked = Backoff(), []

    def fail() -> None:
        asked.append(time.at)
        raise AuthenticityError(f"number {len(asked)}", hint="mend it", code="finer")

    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        number = len(asked) + 1
        assert told(held, fail) == f"number {number}"
        time.at += wait - 0.25
        with pytest.raises(AuthenticityError) as error:
            held.attempt("it", fail)
        message = f"number {number} (so it was {wait - 0.25:.0f} s ago; next request in 0 s)"
        assert (error.value.message, error.value.hint, error.value.code) == (message, "mend it", "finer")
        time.at += 0.25
    assert [later - one for one, later in itertools.pairwise(asked)] == [1, 2, 4, 8, 16, 32, 60]
    assert held.attempt("it", lambda: 5) == 5
    assert told(held, fail) == "number 9"
    time.at += 1
    assert told(held, fail) == "number 10"


def test_time_is_counted_from_the_end(time: Time) -> None:
    """What takes ten seconds to fail is not due again when it has failed."""
    held = Backoff()

    def slow() -> None:
        time.at += 10
        raise UnavailableError("timed out")

    assert told(held, slow) == "timed out"
    time.at += 0.5
    assert told(held, slow).startswith("timed out (so it was ")


def test_each_has_its_own(time: Time) -> None:
    """One that fails holds up no other; and no more than so many are remembered."""
    held = Backoff()

    def fail() -> None:
        raise UnavailableError("no")

    for number in range(2 * backoff.MOST_KEPT):
        assert told(held, fail, number) == "no"
        assert held.attempt(-1, lambda: "yes") == "yes"
    assert len(held._failed) == backoff.MOST_KEPT


def test_nobody_waits_for_one_who_tries_again(time: Time) -> None:
    """While one caller tries again, all others get the last error at once."""
    held, entered, go = Backoff(), threading.Event(), threading.Event()

    def fail() -> None:
        raise UnavailableError("no")

    def slow() -> str:
        entered.set()
        assert go.wait(300)
        return "yes"

    assert told(held, fail) == "no"
    time.at += 1
    found: list[str] = []
    one = threading.Thread(target=lambda: found.append(held.attempt("it", slow)))
    one.start()
    assert entered.wait(300)
    assert told(held, slow) == "no (so it was 1 s ago; is requested again now)"
    go.set()
    one.join()
    assert found == ["yes"]
    assert held.attempt("it", lambda: "yes") == "yes"


def test_several_who_begin_together_fail_once(time: Time) -> None:
    """Four threads that all fail at first make it wait a second, not eight."""
    held, all_in = Backoff(), threading.Barrier(4)

    def fail() -> None:
        all_in.wait(300)
        raise UnavailableError("no")

    threads = [threading.Thread(target=told, args=(held, fail)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    time.at += 1
    assert held.attempt("it", lambda: "yes") == "yes"


def test_what_is_not_ours(time: Time) -> None:
    """A bug causes no wait; a foreign error is reported as unavailability."""
    held = Backoff()

    def bug() -> None:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            held.attempt("it", bug)

    def remote() -> None:
        raise RemoteError("ValueError", "no")

    assert told(held, remote) == RemoteError("ValueError", "no").message
    with pytest.raises(UnavailableError):
        held.attempt("it", remote)
