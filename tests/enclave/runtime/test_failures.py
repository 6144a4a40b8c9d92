"""What of an exception leaves: its name, unless its author or Kluis meant the message to be read."""

from __future__ import annotations

import pytest

from kluis.enclave.runtime import failures
from kluis.enclave.runtime.failures import CancelInterrupt, Failure, failure
from kluis.errors import PolicyError

SECRET = "Jansen"


class Told(Exception):
    pass


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def test_message_stays_inside() -> None:
    """A message that nobody declared fit to leave does not."""
    told = failure(ValueError(SECRET), (), debug=False)
    assert SECRET not in repr(told)
    assert told[:4] == ("ValueError", "", None, "undeclared")


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (ModuleNotFoundError(SECRET), "; inside are the libraries that requirements in kluis.toml name"),
        (
            PermissionError(SECRET),
            "; inside are no network, no other program, and the image's own files;"
            " scratch in kluis.toml gives a place to write",
        ),
        (ValueError(SECRET), ""),
    ],
)
def test_what_an_enclave_lacks(error: Exception, lack: str) -> None:
    """A class that often means a missing feature is reported with it, and never with its message."""
    told = failure(error, (), debug=False)
    assert SECRET not in repr(told)
    assert told.hint == (
        f"its message stays inside: declare it with @app.ecall(raises=({type(error).__name__},)), "
        f"or build with --debug{lack}"
    )


@pytest.mark.parametrize("error", [KeyError(SECRET), SystemExit(SECRET), KeyboardInterrupt(SECRET)])
def test_every_kind(error: BaseException) -> None:
    """So it is for every exception, those that end programs included."""
    told = failure(error, (Told,), debug=False)
    assert SECRET not in repr(told)
    assert told.type == type(error).__name__


def test_declared() -> None:
    """A declared class, and those below it, say their message."""

    class Lower(Told): ...

    assert failure(Told("yes"), (Told,), debug=False) == Failure("Told", "yes")
    assert failure(Lower("yes"), (Told,), debug=False) == Failure("Lower", "yes")


def test_our_own() -> None:
    """A KluisError carries its message, code and hint."""
    told = failure(PolicyError("a: want 1, got 2", hint="do b", code="c"), (), debug=False)
    assert told == Failure("PolicyError", "a: want 1, got 2", None, "c", "do b")


def test_memory_and_cancellation() -> None:
    """These two have one fixed form."""
    assert failure(MemoryError(SECRET), (), debug=False).message == "the enclave's heap is full"
    assert failure(CancelInterrupt(), (), debug=False).type == "CallCancelled"


CODE = (
    "a library wanted to generate code, which this image does not allow:"
    ' grants = ["insecure_jit"] in kluis.toml allows it, and every report states that'
)


@pytest.mark.parametrize("debug", [False, True])
def test_code_that_was_refused(monkeypatch: pytest.MonkeyPatch, debug: bool) -> None:
    """Where generated code was refused, an error names the grant, and a full heap is not its only cause."""
    before = failure(ValueError(SECRET), (), debug=debug)
    monkeypatch.setattr(failures, "code_was_refused", lambda: True)
    after = failure(ValueError(SECRET), (), debug=debug)

    assert CODE not in str(before.hint)
    assert after.hint == (f"{before.hint}; {CODE}" if before.hint else CODE)
    assert failure(MemoryError(), (), debug=debug) == Failure(
        "MemoryError",
        "a library could not generate code, or the enclave's heap is full",
        None,
        "no_generated_code",
        CODE,
    )


def test_a_library_whose_own_code_must_be_written() -> None:
    """A library that is not position-independent needs the same grant; the loader's message is recognised."""
    message = "a.so: cannot make segment writable for relocation: Cannot allocate memory"
    told = failure(ImportError(message), (), debug=False)
    assert message not in repr(told)
    assert str(told.hint).endswith(CODE)
    assert CODE not in str(failure(OSError(message), (), debug=False).hint)


def test_debug_says_all() -> None:
    """A debug enclave reports message and traceback."""
    try:
        int(SECRET)
    except ValueError as error:
        told = failure(error, (), debug=True)
    assert SECRET in told.message
    assert "test_debug_says_all" in str(told.traceback)


def test_bounded_and_clean() -> None:
    """Names and messages have a bound, and are text that can be sent."""
    told = failure(Told("\ud800" + "x" * 10_000), (Told,), debug=False)
    assert len(told.message) == 4096
    assert told.frame(1)
    assert len(failure(type("N" * 1000, (Exception,), {})(), (), debug=False).type) == 128


def test_its_str_raises() -> None:
    """An exception whose text fails is reported by name."""
    assert failure(Broken(), (Broken,), debug=False) == Failure("Broken")
