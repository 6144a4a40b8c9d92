"""One running enclave of a service: started, configured, certified, drained."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, TimeoutError  # noqa: A004 - a future's own
from typing import Any, Final, Self

from kluis.errors import BY_NAME, EnclaveError, KluisError, RemoteError
from kluis.host import load
from kluis.host.proxy import Call, EnclaveProxy
from kluis.serve.images import ServiceImage

GRANT: Final = "listen:web"
# Gives an enclave its certificate, within some seconds.
Naming = Callable[[EnclaveProxy, float], None]
START_SECONDS: Final = 120.0
# Timeout of calls that an enclave answers at once: a stopped one is not waited for.
ANSWER_SECONDS: Final = 10.0


def load_instance(
    image: ServiceImage,
    listener: socket.socket,
    ocalls: Mapping[str, Callable[..., Any]],
    insecure_allow_missing: frozenset[str],
) -> EnclaveProxy:
    """Load a service's enclave, not yet configured; the caller must close it."""
    return load(
        image.path,
        sockets={GRANT: listener},
        ocalls=dict(ocalls),
        start_seconds=START_SECONDS,
        insecure_allow_missing=insecure_allow_missing,
    )


def as_own(error: KluisError) -> KluisError:
    """Convert an enclave's error into an error of this process, because the caller cannot fix the code
    inside.
    """
    if not isinstance(error, RemoteError) or error.inner_code is None or error.type_name not in BY_NAME:
        return error
    message = error.message.removeprefix(f"{error.type_name}: ")
    return BY_NAME[error.type_name](message, hint=error.hint, code=error.inner_code)


class Instance:
    """One enclave that serves, or is prepared to; end it with :meth:`drain`.

    Attributes:
        enclave: the enclave.
        began: when it had started, and made its evidence: seconds of a monotonic clock.
    """

    def __init__(self, enclave: EnclaveProxy, *, named: bool = True) -> None:
        self.enclave = enclave
        self.began = time.monotonic()
        self._named = named
        self._serving: Call | None = None
        self._tending: Call | None = None

    @classmethod
    def prepare(
        cls,
        image: ServiceImage,
        listener: socket.socket,
        *,
        ocalls: Mapping[str, Callable[..., Any]],
        settings: bytes,
        opened: Callable[[EnclaveProxy], None] = lambda enclave: None,
        insecure_allow_missing: frozenset[str] = frozenset(),
        named: bool = True,
        seconds: float = START_SECONDS,
    ) -> Self:
        """Start one on a listening socket, which the caller owns; it serves nobody yet.

        Args:
            image: the service's.
            listener: socket for clients.
            ocalls: the host's functions.
            settings: the service's, JSON.
            opened: opens the enclave's store, before it is configured.
            insecure_allow_missing: protections that this machine may do without; written into the evidence.
            named: whether it uses a certificate from the host, and so can be renamed.
            seconds: that its configuration may take.

        Raises:
            KluisError: it did not start, or does not take these settings; with the reason.
        """
        enclave = load_instance(image, listener, ocalls, insecure_allow_missing)
        with _closing(enclave):
            opened(enclave)
            enclave.configure.within(seconds)(settings)
        return cls(enclave, named=named)

    def serve_named(self, name: Naming) -> None:
        """Have it serve, with a certificate."""
        self.serve(lambda enclave: name(enclave, START_SECONDS))

    def serve(self, first: Callable[[EnclaveProxy], None]) -> None:
        """Start serving once ``first`` has returned; if that raises, the instance is ended.

        Raises:
            KluisError: it does not start; states why.
        """
        with _closing(self.enclave):
            first(self.enclave)
            self._serving = self.enclave.submit("serve")

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._serving is not None and not self._serving.done()

    def fault(self) -> KluisError | None:
        """Why it no longer serves, if it ended by itself."""
        if self.running or self._serving is None:
            return None
        error = self._serving.exception()
        return as_own(error) if isinstance(error, KluisError) else EnclaveError("it stopped serving")

    def rename(self, name: Naming) -> None:
        """Make it use a new certificate, before the old one expires."""
        if self._named:
            name(self.enclave, ANSWER_SECONDS)

    def metrics(self) -> bytes:
        """Its counts, in Prometheus' text format; empty if its image has none.

        Raises:
            KluisError: it does not answer.
        """
        if all(one.name != "request_metrics" for one in self.enclave.interface.ecalls):
            return b""
        text: bytes = self.enclave.request_metrics.within(ANSWER_SECONDS)()
        return text

    def recent(self) -> bytes:
        """Its requests since the last call, for traces, JSON; an empty list if its image has none.

        Raises:
            KluisError: it does not answer.
        """
        if all(one.name != "recent_requests" for one in self.enclave.interface.ecalls):
            return b"[]"
        rows: bytes = self.enclave.recent_requests.within(ANSWER_SECONDS)()
        return rows

    def tend(self) -> KluisError | None:
        """Trigger its upkeep without waiting; nothing if the previous run continues.

        Returns:
            The error of the previous run, if there was one.
        """
        before = self._tending
        if before is not None and not before.done():
            return None
        self._tending = self.enclave.submit("tend")
        error = None if before is None else before.exception()
        return as_own(error) if isinstance(error, KluisError) else None

    def drain(self, seconds: float) -> None:
        """Let requests finish within ``seconds``, then end it; if it does not respond, end it at once."""
        with contextlib.suppress(KluisError, CancelledError, TimeoutError):
            if self._serving is not None:
                self.enclave.drain.within(ANSWER_SECONDS)(seconds)
                self._serving.result(timeout=seconds + 5.0)
        self.enclave.close()


@contextlib.contextmanager
def _closing(enclave: EnclaveProxy) -> Iterator[None]:
    """Close an enclave whose beginning fails, and say why as an error of this process."""
    try:
        yield
    except BaseException as error:
        enclave.close()
        if isinstance(error, RemoteError):
            raise as_own(error) from None
        raise
