"""Cancellation: once, in the right call, and never in the one after it."""

from __future__ import annotations

import threading
import time

import pytest

from kluis.enclave.runtime import cancelling
from kluis.enclave.runtime.cancelling import MAX_EARLY, Running, held_lock
from kluis.enclave.runtime.failures import CancelInterrupt


def begin(running: Running, call: int) -> None:
    running.threads[call] = threading.get_ident()
    if running.early:
        running.recall(call)


def end(running: Running, call: int) -> bool:
    if running.threads.pop(call, None) is not None:
        return True
    running.absorb(call)
    return False


def busy(seconds: float) -> None:
    """Compute; its own function, since Python 3.13 leaves a loop's last jump out of the try around it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def work(running: Running, call: int, seconds: float) -> bool:
    """One call: whether it ran to its end."""
    try:
        begin(running, call)
        busy(seconds)
        return end(running, call)
    except CancelInterrupt:
        end(running, call)
        return False


def test_interrupts_a_busy_call() -> None:
    """A call that computes ends long before it would have."""
    running, ends = Running(), []
    thread = threading.Thread(target=lambda: ends.append(work(running, 1, 3600)))
    thread.start()
    while 1 not in running.threads:
        time.sleep(0.001)
    assert running.cancel(1) == thread.ident
    thread.join(120)
    assert ends == [False]


def test_nothing_to_cancel() -> None:
    """A call that has ended is not found."""
    running = Running()
    assert work(running, 1, 0)
    assert running.cancel(1) is None


def test_cancelled_before_it_begins() -> None:
    """A cancellation that overtakes its call waits for it."""
    running = Running()
    assert running.cancel(9) is None
    with pytest.raises(CancelInterrupt):
        begin(running, 9)

    assert work(running, 10, 0)


def test_one_call_from_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread and a loop that read at once cancel it once: the call after it is not interrupted."""
    remember = Running._remember

    def slow_lock() -> threading.Lock:
        time.sleep(0.001)
        return held_lock()

    def slow_remember(running: Running, call: int) -> None:
        time.sleep(0.02)
        remember(running, call)

    monkeypatch.setattr(cancelling, "held_lock", slow_lock)
    monkeypatch.setattr(Running, "_remember", slow_remember)
    for _ in range(10):
        running, began, threads = Running(), threading.Event(), list[int | None]()
        outcome: list[bool] = []

        def work_twice(running: Running = running, began: threading.Event = began) -> None:
            outcome.append(work_begun(running, began))  # noqa: B023 - each is joined below
            outcome.append(work(running, 2, 0.001))  # noqa: B023

        thread = threading.Thread(target=work_twice, daemon=True)
        thread.start()
        assert began.wait(60)
        both = [
            threading.Thread(target=lambda one=running, to=threads: to.append(one.cancel(1)))
            for _ in range(2)
        ]
        for each in both:
            each.start()
        for each in (*both, thread):
            each.join(60)
        assert outcome == [False, True]
        assert sorted(threads, key=bool) == [None, thread.ident]
        assert running._handed == {}


def work_begun(running: Running, began: threading.Event) -> bool:
    """Call 1, which reports that it has begun."""
    try:
        begin(running, 1)
        began.set()
        busy(3600)
        return end(running, 1)
    except CancelInterrupt:
        end(running, 1)
        return False


def test_a_thread_that_cancels_its_own_call() -> None:
    """It is not interrupted by another; it raises by itself, and its next call runs to its end."""
    running = Running()
    begin(running, 1)
    assert running.cancel(1) == threading.get_ident()
    assert not end(running, 1)
    assert work(running, 2, 0)
    assert running._handed == {}


def test_early_ones_are_bounded() -> None:
    """A host that cancels calls it never makes fills no memory."""
    running = Running()
    for call in range(1, 3 * MAX_EARLY):
        running.cancel(call)
    assert len(running.early) == MAX_EARLY


def test_never_in_the_next_call() -> None:
    """Of thousands of calls cancelled about when they end, none hits the call after it."""
    running, stop = Running(), threading.Event()
    stray: list[BaseException] = []
    ended = {True: 0, False: 0}

    def worker() -> None:
        try:
            for call in range(1, 3000):
                ended[work(running, call, 0.00002)] += 1
        except BaseException as error:
            stray.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=worker)
    thread.start()
    while not stop.is_set():
        for call in list(running.threads):
            running.cancel(call)
    thread.join()
    assert stray == []
    assert sum(ended.values()) == 2999
    assert ended[False] > 0
    assert running._handed == {}
