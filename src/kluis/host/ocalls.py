"""Ocalls on the host: functions of this host, run in separate threads, for the enclave."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from kluis.enclave.boundary import codec as boundary
from kluis.enclave.boundary import frames
from kluis.enclave.boundary.codec import Codec
from kluis.enclave.boundary.frames import Frame, Parcel
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.host.interface import Interface

F = TypeVar("F", bound=Callable[..., Any])
Functions = Mapping[str, Callable[..., Any]]
MAX_THREADS = 16
QUICK = "kluis_quick"


def quick(function: F) -> F:
    """Declare that a function that serves an ocall may run in the thread that reads for all calls.

    That saves waking another thread. Other calls are answered meanwhile, but if no other thread waits for an
    answer, the enclave's other ocalls are read only when the function returns. So it must not wait for them.
    """
    setattr(function, QUICK, True)
    return function


class AnswerFirst(NamedTuple):
    """What a function returns that has more to do once its result is on its way.

    Attributes:
        value: the result.
        then: called after it was sent, in the same thread; must not raise.
    """

    value: Any
    then: Callable[[], None]


def functions_of(functions: object) -> Functions:
    """Extract the functions from the argument of ``load``.

    Args:
        functions: a mapping of names, an Enclave (its own bodies), None, or any object with methods.
    """
    if functions is None:
        return {}
    if isinstance(functions, Mapping):
        return functions
    declared = getattr(functions, "ocalls", None)
    if isinstance(declared, Mapping):
        return declared
    return {
        name: value
        for name in dir(functions)
        if not name.startswith("_") and callable(value := getattr(functions, name))
    }


class Ocalls:
    """The ocalls of one enclave.

    Args:
        interface: declares them.
        functions: those that this host serves.

    Raises:
        UsageError: a function does not have the name of an ocall.
    """

    def __init__(self, interface: Interface, functions: Functions) -> None:
        self._codecs = tuple(
            Codec(one, frames.FIRST_OCALL + kind, frames.OCALL_RETURN, interface.limits)
            for kind, one in enumerate(interface.ocalls)
        )
        names = {codec.name for codec in self._codecs}
        self._functions = {name: one for name, one in functions.items() if name in names}
        if isinstance(functions, dict) and (unknown := sorted(set(functions) - names)):
            raise UsageError(f"ocalls: {unknown[0]}: the image declares {sorted(names)}")
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._answer: Callable[[int, Frame, tuple[int, ...]], None] = lambda *_: None

    def connect(self, answer: Callable[[int, Frame, tuple[int, ...]], None]) -> None:
        """Set where answers are sent."""
        self._answer = answer

    def give(self, name: str, function: Callable[..., Any]) -> None:
        """Serve ``name`` with ``function`` from now on.

        Raises:
            UsageError: the image declares no such ocall.
        """
        if name not in {codec.name for codec in self._codecs}:
            raise UsageError(f"ocalls: {name}: the image declares {sorted(c.name for c in self._codecs)}")
        self._functions[name] = function

    def take(self, parcel: Parcel, here: bool = False) -> Callable[[], None] | None:
        """Run the ocall in ``parcel`` in a separate thread, and answer it.

        Args:
            parcel: of the ocall.
            here: whether the caller would run a :func:`quick` function itself.

        Returns:
            What the caller must run, which answers the ocall; None if a thread does.
        """
        if here and self._is_quick(parcel):
            return functools.partial(self._run, parcel)
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="kluis-ocall")
            threads = self._threads
        try:
            threads.submit(self._run, parcel)
        except RuntimeError:  # closed
            parcel.close()
        return None

    def _is_quick(self, parcel: Parcel) -> bool:
        index = frames.head(parcel.frame).kind - frames.FIRST_OCALL
        name = self._codecs[index].name if index < len(self._codecs) else ""
        return getattr(self._functions.get(name), QUICK, False) is True

    def close(self) -> None:
        """Start no more ocalls; running ones continue."""
        with self._lock:
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, parcel: Parcel) -> None:
        head = frames.head(parcel.frame)
        frame: Frame
        files: tuple[int, ...] = ()
        then: Callable[[], None] | None = None
        try:
            codec, value = self._call(head, parcel)
            if isinstance(value, AnswerFirst):
                value, then = value
            frame, files = codec.encode_result(head.id, value)
        except Exception as error:  # noqa: BLE001 - what the host's function raises is reported inside
            frame = frames.encode(frames.OcallRaised(head.id, type(error).__name__, str(error)))
        finally:
            parcel.close()
        try:
            self._answer(head.id, frame, files)
        finally:
            boundary.close(files)
            if then is not None:
                then()

    def _call(self, head: frames.Head, parcel: Parcel) -> tuple[Codec, Any]:
        index = head.kind - frames.FIRST_OCALL
        if index >= len(self._codecs):
            raise FormatError(f"ocall: want 0..{len(self._codecs) - 1}, got {index}")
        codec = self._codecs[index]
        arguments = codec.decode_call(parcel)
        function = self._functions.get(codec.name)
        if function is None:
            raise UnavailableError(f"ocall {codec.name}: this host does not serve it")
        return codec, function(*arguments)
