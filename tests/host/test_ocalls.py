"""Ocalls on the host: which there are, and who serves them."""

from __future__ import annotations

import threading

import pytest

from kluis.enclave import Enclave
from kluis.enclave.boundary import frames
from kluis.enclave.boundary.frames import Parcel
from kluis.errors import UsageError
from kluis.host import interface
from kluis.host.ocalls import AnswerFirst, Ocalls, functions_of, quick

app = Enclave("sample")


@app.ocall
def progress(done: int) -> None:
    """Tell."""


def test_what_may_be_given() -> None:
    """A mapping, an application, an object with methods, or nothing."""

    class Served:
        def progress(self, done: int) -> None: ...

    assert functions_of(None) == {}
    assert list(functions_of({"progress": print})) == ["progress"]
    assert list(functions_of(app)) == ["progress"]
    assert list(functions_of(Served())) == ["progress"]


def test_unknown_name() -> None:
    """A function that serves no declared ocall is an error."""
    declared = interface.parse(app.interface_json())
    with pytest.raises(UsageError, match=r"^ocalls: progres: the image declares \['progress'\]$"):
        Ocalls(declared, {"progres": print})
    with pytest.raises(UsageError, match=r"^ocalls: other: "):
        Ocalls(declared, {}).give("other", print)


def test_only_a_quick_function_runs_in_the_thread_that_reads() -> None:
    """And only where that thread offers it; its answer is sent all the same."""
    declared = interface.parse(app.interface_json())
    done, answers = threading.Event(), list[tuple[int, int]]()

    def answer(number: int, frame: frames.Frame, files: tuple[int, ...]) -> None:
        answers.append((number, threading.get_ident()))
        done.set()

    def frame(number: int) -> Parcel:
        return Parcel(frames.encode((frames.FIRST_OCALL, number, 1)))

    for function, here in ((quick(lambda done: None), False), (lambda done: None, True)):
        served = Ocalls(declared, {"progress": function})
        served.connect(answer)
        assert served.take(frame(1), here) is None
        assert done.wait(300)
        done.clear()
        served.close()
    served = Ocalls(declared, {"progress": quick(lambda done: None)})
    served.connect(answer)
    run = served.take(frame(2), here=True)
    assert run is not None
    assert not done.is_set()
    run()
    here_thread = threading.get_ident()
    assert [number for number, _ in answers] == [1, 1, 2]
    assert [thread == here_thread for _, thread in answers] == [False, False, True]


def test_a_function_may_go_on_once_its_answer_was_sent() -> None:
    """In the same thread; the answer is the value itself."""
    doubling = Enclave("doubling")

    @doubling.ocall
    def double(number: int) -> int:
        """Double it."""
        return 2 * number

    steps = list[object]()
    served = Ocalls(
        interface.parse(doubling.interface_json()),
        {"double": quick(lambda number: AnswerFirst(2 * number, lambda: steps.append("then")))},
    )
    served.connect(lambda number, frame, files: steps.append(bytes(frame)))
    run = served.take(Parcel(frames.encode((frames.FIRST_OCALL, 3, 21))), here=True)
    assert run is not None
    run()
    assert steps == [frames.encode((frames.OCALL_RETURN, 3, 42)), "then"]
