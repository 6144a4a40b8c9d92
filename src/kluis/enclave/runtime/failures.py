"""Reduce exceptions inside to what may leave: usually only the class's name.

A message contains data: that of ``int("Jansen")`` contains the name. So it leaves only if the author allowed
it: for a KluisError, for a class that the ecall declares in ``raises``, and from a debug enclave, which adds
the traceback. Out of memory has one fixed message.
"""

from __future__ import annotations

from typing import NamedTuple

from kluis.enclave.boundary import frames
from kluis.errors import KluisError

try:
    from kluis_launcher import refused_code as code_was_refused  # type: ignore[import-not-found]  # built in
except ImportError:  # a rehearsal, in an interpreter without the launcher

    def code_was_refused() -> bool:
        """Outside an enclave no library is refused anything."""
        return False


MAX_NAME = 128
MAX_MESSAGE = 4096
MAX_TRACEBACK = 32 * 1024


class CancelInterrupt(KeyboardInterrupt):
    """The host cancelled the running call; raised in the call's own thread.

    An event loop ends by this class, and by few others.
    """


class OwnInterrupt(CancelInterrupt):
    """A loop has read the cancellation of the call in its own thread; raised between two frames."""


class Failure(NamedTuple):
    """The part of an exception that may leave."""

    type: str
    message: str = ""
    traceback: str | None = None
    code: str | None = None
    hint: str | None = None

    def frame(self, call: int) -> bytearray:
        """Encode it as the answer to ``call``."""
        return frames.encode((frames.RAISED, call, *self))


def failure(error: BaseException, raises: tuple[type[Exception], ...], debug: bool) -> Failure:
    """Extract from an exception what may leave.

    Args:
        error: from the application.
        raises: classes whose messages may leave, as declared by the ecall.
        debug: whether the enclave is a debug one.
    """
    if isinstance(error, MemoryError):
        return NO_CODE if code_was_refused() else OUT_OF_MEMORY
    if isinstance(error, CancelInterrupt):
        return CANCELLED
    try:
        return _failure(error, raises, debug)
    except MemoryError:
        return OUT_OF_MEMORY
    except Exception:  # noqa: BLE001 - an exception whose __str__ raises still ends the call
        return Failure(_clean(type(error).__name__, MAX_NAME))


def _failure(error: BaseException, raises: tuple[type[Exception], ...], debug: bool) -> Failure:
    name = _clean(type(error).__name__, MAX_NAME)
    shown = debug or isinstance(error, (KluisError, *raises))
    code = hint = trace = None
    if isinstance(error, KluisError):
        code, hint = _clean(error.code, MAX_NAME), error.hint and _clean(error.hint, MAX_MESSAGE)
    elif not shown:
        code, hint = "undeclared", UNDECLARED.format(name=name) + _lack(error)
    if _asked_for_code(error) and not isinstance(error, KluisError):
        hint = f"{hint}; {CODE_HINT}" if hint else CODE_HINT
    if debug:
        import traceback

        trace = _clean("".join(traceback.format_exception(error)), MAX_TRACEBACK)
    return Failure(name, _clean(str(error), MAX_MESSAGE) if shown else "", trace, code, hint)


def _lack(error: BaseException) -> str:
    """A feature that enclaves do not have and that often is the cause: determined by the class, which leaves
    anyway.
    """
    match error:
        case ImportError():
            return "; inside are the libraries that requirements in kluis.toml name"
        case OSError():
            return (
                "; inside are no network, no other program, and the image's own files;"
                " scratch in kluis.toml gives a place to write"
            )
        case _:
            return ""


def _asked_for_code(error: BaseException) -> bool:
    """Whether an error may result from refused code generation: the launcher saw the refusal, or the loader
    did.

    The loader maps a library's own code writable if it is not position-independent, and its message is the
    only trace of that.
    """
    return code_was_refused() or (isinstance(error, ImportError) and TEXT_RELOCATION in str(error))


def _clean(text: str, size: int) -> str:
    return text[:size].encode("utf-8", "replace").decode()


OUT_OF_MEMORY = Failure(
    "MemoryError", "the enclave's heap is full", None, "out_of_memory", "give it more: heap in kluis.toml"
)
CODE_HINT = (
    "a library wanted to generate code, which this image does not allow:"
    ' grants = ["insecure_jit"] in kluis.toml allows it, and every report states that'
)
NO_CODE = Failure(
    "MemoryError",
    "a library could not generate code, or the enclave's heap is full",
    None,
    "no_generated_code",
    CODE_HINT,
)
TEXT_RELOCATION = "cannot make segment writable for relocation"
CANCELLED = Failure("CallCancelled", "the host took the call back", None, "call_cancelled")
UNDECLARED = "its message stays inside: declare it with @app.ecall(raises=({name},)), or build with --debug"
