"""Workers: few, started when needed, with a bounded queue."""

from __future__ import annotations

import threading

from kluis.enclave.workers import Workers


def test_runs_at_once_up_to_most() -> None:
    """As many jobs run beside each other as there may be threads; the rest wait, up to a bound."""
    workers, gate, begun = Workers(2, 3), threading.Event(), threading.Semaphore(0)
    done: list[int] = []

    def job(number: int) -> None:
        begun.release()
        gate.wait(10)
        done.append(number)

    taken = [workers.put(lambda n=n: job(n)) for n in range(7)]  # type: ignore[misc]
    assert taken == [True] * 5 + [False] * 2
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    assert not begun.acquire(timeout=0.05)
    gate.set()
    for _ in range(3):
        assert begun.acquire(timeout=10)


def test_idle_threads_are_used_again() -> None:
    """One job after another needs one thread."""
    workers, seen = Workers(4, 1), set()
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            seen.add(threading.get_ident())
            done.set()

        assert workers.put(job)
        assert done.wait(10)
        while workers._open:  # its thread is free a moment after its job has ended
            threading.Event().wait(0.001)
    assert len(seen) == 1
