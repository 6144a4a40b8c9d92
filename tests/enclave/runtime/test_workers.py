"""Workers: few, started when needed, with a bounded queue."""

from __future__ import annotations

import threading

import pytest

from kluis.enclave.runtime import workers
from kluis.enclave.runtime.workers import Workers


def test_runs_at_once_up_to_most() -> None:
    """As many jobs run at once as threads are allowed; the rest wait, up to a limit."""
    few, gate, begun = Workers(2, 3), threading.Event(), threading.Semaphore(0)
    done: list[int] = []

    def job(number: int) -> None:
        begun.release()
        gate.wait(120)
        done.append(number)

    taken = [few.put(lambda n=n: job(n)) for n in range(7)]  # type: ignore[misc]
    assert taken == [True] * 5 + [False] * 2
    assert begun.acquire(timeout=120)
    assert begun.acquire(timeout=120)
    assert not begun.acquire(timeout=0.05)
    gate.set()
    for _ in range(3):
        assert begun.acquire(timeout=120)


def test_a_thread_that_never_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out one can end before its first line: others work, and nobody waits for it."""
    busy, gate, done = Workers(2, 3), threading.Event(), threading.Event()
    assert busy.put(lambda: bool(gate.wait(120)))
    monkeypatch.setattr(workers, "BEGIN_SECONDS", 0.01)
    monkeypatch.setattr(workers._thread, "start_new_thread", lambda *_: 0)
    assert not Workers(2, 3).put(done.set)
    assert busy.put(done.set)
    assert not done.wait(0.05)
    gate.set()
    assert done.wait(120)


def test_idle_threads_are_used_again() -> None:
    """One job after another needs one thread."""
    one, seen = Workers(4, 1), set()
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            seen.add(threading.get_ident())
            done.set()

        assert one.put(job)
        assert done.wait(120)
        while one._open:  # its thread is free a moment after its job has ended
            threading.Event().wait(0.001)
    assert len(seen) == 1
