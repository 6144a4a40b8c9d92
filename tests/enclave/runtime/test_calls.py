"""Calls into a running application, through the real runtime in a separate process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kluis.enclave import Table
from kluis.errors import CallCancelled, CallTimeout, EnclaveDied, RemoteError, UsageError
from kluis.host.proxy import EnclaveProxy

Launch = Callable[..., EnclaveProxy]


@pytest.fixture
def running(enclave: Launch, subject: Path) -> EnclaveProxy:
    """The subject, with a host that triples."""
    return enclave(
        subject, ocalls={"ask": lambda question: 3 * question, "show": lambda table: table, "hurry": slow}
    )


def slow() -> int:
    time.sleep(0.6)
    return 1


def test_arguments_and_results(running: EnclaveProxy) -> None:
    """Values of every kind go in and come out."""
    assert running.nothing() is None
    assert running.add(3) == 5
    assert running.add(b=4, a=3) == 7
    assert running.echo(b"x" * 3_000_000) == b"x" * 3_000_000
    person, red = running.interface.types["Person"], running.interface.types["Colour"].RED
    inside = running.people([{"name": "a", "friends": [person(name="b")]}], None)
    friend = person(name="b", friends=[], colour=red)
    assert inside == [person(name="a", friends=[friend], colour=red)]
    assert running.people([], {"x": 1.0}, mode="b")[0].name == "1.0"


def test_tables(running: EnclaveProxy) -> None:
    """A table goes in mapped, and one comes out."""
    assert running.rows({"a": [1, 2, 3]}) == 3
    assert running.doubled({"a": [1]}) == Table({"a": [1, 1]})


def test_wrong_arguments(running: EnclaveProxy) -> None:
    """What does not fit is refused before it is sent, and the enclave goes on."""
    with pytest.raises(UsageError) as refused:
        running.add("3")
    assert refused.value.message == "add.a: want int, got str"
    with pytest.raises(UsageError) as refused:
        running.people([{"name": "x" * 21}], None)
    assert refused.value.message == "people.persons[0].name: want str of length <= 20"
    with pytest.raises(UsageError) as refused:
        running.echo(bytes(5 << 20))
    assert refused.value.message == f"echo: want at most {4 << 20} bytes, got {(5 << 20) + 8}"
    with pytest.raises(UsageError, match=r"^rows\.table: want at most 8388608 bytes, got 16000000$"):
        running.rows({"a": list(range(2_000_000))})
    with pytest.raises(TypeError, match=r"^add: wants a$"):
        running.add()
    with pytest.raises(AttributeError, match=r"^enclave subject: has no ecall subtract$"):
        running.subtract(1)
    assert running.add(1) == 3


RAISED = {
    "declared": ("Refusal: as declared", "Refusal", None),
    "policy": ("PolicyError: count: want 3, got 2", "PolicyError", "ask for less"),
    "memory": ("MemoryError: the enclave's heap is full", "MemoryError", "give it more: heap in kluis.toml"),
    "exit": ("SystemExit", "SystemExit", None),
    "evil": ("Evil" * 32, "Evil" * 32, None),
    "undeclared": ("LookupError", "LookupError", None),
}


@pytest.mark.parametrize("how", RAISED)
def test_exceptions(running: EnclaveProxy, how: str) -> None:
    """An exception ends its call as a typed error with no traceback, and the enclave goes on."""
    message, name, hint = RAISED[how]
    with pytest.raises(RemoteError) as raised:
        running.refuse(how)
    assert raised.value.message == message
    assert raised.value.type_name == name
    assert raised.value.traceback is None
    if hint:
        assert raised.value.hint == hint
    assert running.add(1) == 3


def test_no_message_that_nobody_declared(running: EnclaveProxy) -> None:
    """The secret in an exception's message stays inside, and so does a result of another type."""
    with pytest.raises(RemoteError) as raised:
        running.leak()
    assert raised.value.message == "ValueError"
    assert "Jansen" not in repr(raised.value) + str(raised.value.hint)
    with pytest.raises(RemoteError) as raised:
        running.liar()
    assert raised.value.message == "UsageError: liar result: want int, got str"


def test_debug_tells(enclave: Launch, subject: Path) -> None:
    """A debug enclave tells message and traceback."""
    running = enclave(subject, debug=True)
    with pytest.raises(RemoteError) as raised:
        running.leak()
    assert raised.value.message.startswith("ValueError: invalid literal")
    assert "in leak" in str(raised.value.traceback)


def test_out_of_memory(running: EnclaveProxy) -> None:
    """Asking for too much is an error, not an end."""
    with pytest.raises(RemoteError) as raised:
        running.exhaust()
    assert raised.value.type_name == "MemoryError"
    assert running.add(1) == 3


NO_MEMORY = {"MemoryError", "OSError", "RuntimeError", "SystemError"}
"""Libraries say it in several ways; what counts is that each call is answered."""


def test_memory_fills_up(enclave: Launch, subject: Path) -> None:
    """While calls fill the heap, every call gets its answer: a result, or that there was no memory."""
    running = enclave(subject, ocalls={"ask": lambda question: 3 * question})
    running.squeeze(40)
    told = {"result": 0, "no memory": 0}

    def attempt(turn: int) -> None:
        kinds = (running.fill, running.through, running.echo, running.add)
        arguments = (turn % 8 == 0, turn, b"x" * 200_000, turn)
        try:
            kinds[turn % 4].within(60)(arguments[turn % 4])
            told["result"] += 1
        except RemoteError as error:
            told["no memory" if error.type_name in NO_MEMORY else error.type_name] += 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(attempt, range(120)))
    assert told["no memory"] >= 30
    assert running.add.within(120)(1) == 3
    assert running.through.within(120)(1) == 3


def test_descriptors_run_out(running: EnclaveProxy) -> None:
    """A call or answer that needs a descriptor when none is left is refused, and the enclave continues."""
    running.scarce(0)
    for _ in range(3):
        with pytest.raises(RemoteError) as raised:
            running.echo.within(120)(bytes(200_000))
        assert raised.value.message in {
            "LostFrame: frame: came with more than 16 files, or than can be opened",
            "LostFrame: frame: no memory file can be made: Too many open files",
        }
        with pytest.raises(RemoteError) as raised:
            running.rows.within(120)({"a": [1]})
        assert raised.value.type_name == "LostFrame"
        assert running.add.within(120)(1) == 3
        assert running.through.within(120)(1) == 3


def test_ocalls(running: EnclaveProxy) -> None:
    """The host's function answers, values and tables alike."""
    assert running.through(5) == 15
    assert running.shown({"a": [1, 2]}) == 2


def test_ocalls_that_are_begun(enclave: Launch, subject: Path) -> None:
    """The host works on several at once, while the call that began them goes on."""
    together = threading.Barrier(3)

    def ask(question: int) -> int:
        together.wait(120)
        return 3 * question

    running = enclave(subject, ocalls={"ask": ask})
    assert running.ahead(3) == [0, 3, 6]
    assert running.together(3) == [0, 3, 6]


def test_a_coroutine_awaits_answers_and_waits_for_them(enclave: Launch, subject: Path) -> None:
    """Its loop reads the host's answers while it awaits them, and another thread while it waits."""
    running = enclave(subject, ocalls={"ask": lambda question: 3 * question})
    assert running.in_both_ways(30) == [3 * question for question in range(30)]


def test_ocall_in_an_ocall(enclave: Launch, subject: Path) -> None:
    """A host may call in again from an ocall, some levels deep."""
    running: EnclaveProxy

    def ask(question: int) -> int:
        return running.through(question - 1) + 1 if question else 0

    running = enclave(subject, ocalls={"ask": ask})
    assert running.through(4) == 4


def test_ocall_that_raises(enclave: Launch, subject: Path) -> None:
    """The host's exception is raised inside, and what the application does not catch comes out."""

    def ask(question: int) -> int:
        raise KeyError(question)

    running = enclave(subject, ocalls={"ask": ask})
    with pytest.raises(RemoteError) as raised:
        running.through(5)
    assert raised.value.message == "RemoteError: KeyError: 5"


def test_ocall_of_another_type(enclave: Launch, subject: Path) -> None:
    """A host function that answers out of type is found at the host."""
    running = enclave(subject, ocalls={"ask": lambda question: "many"})
    with pytest.raises(RemoteError) as raised:
        running.through(5)
    assert raised.value.message == "RemoteError: UsageError: ask result: want int, got str"


def test_ocall_not_served(enclave: Launch, subject: Path) -> None:
    """A host that does not serve an ocall reports that; the call ends."""
    with pytest.raises(RemoteError) as raised:
        enclave(subject).through(5)
    assert raised.value.message == "RemoteError: UnavailableError: ocall ask: this host does not serve it"


def test_ocall_too_slow(running: EnclaveProxy) -> None:
    """A host that answers after the declared time is not waited for, and its late answer harms nothing."""
    with pytest.raises(RemoteError) as raised:
        running.hurried()
    assert raised.value.message == "CallTimeout: ocall hurry: no answer from the host in 0.3 s"
    time.sleep(0.4)
    assert running.through(1) == 3


def test_concurrent(running: EnclaveProxy) -> None:
    """Hundreds of calls from many threads, each with an ocall, get each their own answer."""
    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(running.through, range(400))) == [3 * i for i in range(400)]


def test_beside_a_long_call(running: EnclaveProxy) -> None:
    """A short call does not wait for a long one."""
    long = running.spin.submit(3600.0)
    assert running.add(1) == 3
    assert running.echo(b"x" * 1_000_000) == b"x" * 1_000_000
    assert not long.done()
    long.cancel()


def test_timeout(running: EnclaveProxy) -> None:
    """A call that takes too long raises, and stops inside."""
    with pytest.raises(CallTimeout, match=r"^spin: no answer in 0\.2 s$"):
        running.spin.within(0.2)(3600)
    for _ in range(20):
        assert running.add.within(120)(1) == 3


def test_timeout_at_once(running: EnclaveProxy) -> None:
    """A cancellation that overtakes its call stops it when it begins."""
    for _ in range(20):
        with pytest.raises(CallTimeout):
            running.spin.within(0.0)(3600)
    assert running.add.within(120)(1) == 3


def test_cancel(running: EnclaveProxy) -> None:
    """A call taken back raises at its caller and stops inside; one that waits for the host, too."""
    for _ in range(20):
        call = running.spin.submit(3600)
        assert call.cancel()
        assert not call.cancel()
        with pytest.raises(CallCancelled):
            call.result(120)
    assert running.add.within(120)(1) == 3


def test_cancel_while_the_host_is_asked(enclave: Launch, subject: Path) -> None:
    """A call that waits for an ocall is cancelled there."""
    gate, asked = threading.Event(), threading.Semaphore(0)

    def ask(question: int) -> int:
        asked.release()
        return gate.wait(300)

    running = enclave(subject, ocalls={"ask": ask})
    calls = [running.through.submit(1) for _ in range(7)]
    for _ in calls:
        assert asked.acquire(timeout=120)
    for call in calls:
        call.cancel()
    assert running.add.within(120)(1) == 3
    assert all(running.add.submit(i).result(120) == i + 2 for i in range(10))
    gate.set()


def test_cancel_a_call_whose_own_loop_reads_the_hosts_answers(enclave: Launch, subject: Path) -> None:
    """The loop reads its own cancellation: the call ends, and the enclave does not."""
    asked = threading.Semaphore(0)

    def ask(question: int) -> int:
        asked.release()
        return question

    running = enclave(subject, ocalls={"ask": ask})
    for _ in range(3):
        call = running.in_a_loop_of_its_own.submit(5)
        for _ in range(5):
            assert asked.acquire(timeout=120)
        time.sleep(0.1)  # until the last answer is there
        assert call.cancel()
        with pytest.raises(CallCancelled):
            call.result(120)
        assert running.add.within(120)(1) == 3
    assert running.together(3) == [0, 1, 2]


@pytest.mark.parametrize(("threads", "at_once"), [(1, 2), (4, 3)])
def test_how_many_calls_run_at_once(enclave: Launch, subject: Path, threads: int, at_once: int) -> None:
    """One fewer than the image has threads, since one listens; but never fewer than two."""
    gate, asked = threading.Event(), threading.Semaphore(0)

    def ask(question: int) -> int:
        asked.release()
        gate.wait(300)
        return question

    running = enclave(subject, threads=threads, ocalls={"ask": ask})
    calls = [running.through.submit(1) for _ in range(at_once + 1)]
    for _ in range(at_once):
        assert asked.acquire(timeout=120)
    assert not asked.acquire(timeout=0.3)
    gate.set()
    assert [call.result(120) for call in calls] == [1] * len(calls)


def test_more_calls_than_workers(enclave: Launch, subject: Path) -> None:
    """Calls that find no free worker wait their turn."""
    running = enclave(subject, threads=3)
    with ThreadPoolExecutor(10) as pool:
        assert len(list(pool.map(running.spin, [0.05] * 10))) == 10
    assert running.threads() <= 3


def test_what_nobody_catches(enclave: Launch, subject: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An exception in a finaliser or at a thread's end has a text, and standard error is the host's."""
    running = enclave(subject)
    running.careless("the patient's name")
    assert running.add(2) == 4
    running.close()
    assert capfd.readouterr().err == ""


def test_host_closes(running: EnclaveProxy) -> None:
    """Hanging up ends the enclave and every call that waits."""
    waiting = [running.spin.submit(3600) for _ in range(3)]
    time.sleep(0.2)
    running.close()
    for call in waiting:
        with pytest.raises(EnclaveDied, match=r"^the enclave was closed$"):
            call.result(120)
    with pytest.raises(EnclaveDied):
        running.add(1)


def test_enclave_dies(running: EnclaveProxy) -> None:
    """An enclave that is killed ends every call that waits, at once."""
    waiting = [running.spin.submit(3600) for _ in range(3)]
    time.sleep(0.2)
    running._process._child.kill()  # type: ignore[attr-defined]
    for call in waiting:
        with pytest.raises(EnclaveDied, match=r"^the enclave ended: signal 9$"):
            call.result(120)
    with pytest.raises(EnclaveDied):
        running.add(1)
