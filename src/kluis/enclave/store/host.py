"""The host's side of the store, with its failures mapped to UnavailableError or AuthenticityError."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

from kluis.enclave.store.records import Records, StoreAnswer, StoreCommit, StoreSurvey
from kluis.errors import AuthenticityError, EnclaveError, FormatError, UnavailableError

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class Begins(Protocol):
    """Records on another process: the enclave can continue while they are written there."""

    def begin_commit(self, commit: StoreCommit) -> Callable[[], bool]:
        """Send a commit, and return a function that waits for the answer."""
        ...


class Host:
    """The host's side of a store; every method raises UnavailableError or AuthenticityError."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._begins = records.begin_commit if isinstance(records, Begins) else None

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        """As :meth:`Records.read`."""
        return ask_host(self._records.read, ids, known)

    def survey(self, after: bytes) -> StoreSurvey:
        """As :meth:`Records.survey`."""
        return ask_host(self._records.survey, after)

    def begin_commit(self, commit: StoreCommit) -> Callable[[], bool]:
        """Send a commit for :meth:`Records.commit`, and return a function that waits for its answer."""
        if self._begins is not None:
            return functools.partial(ask_host, ask_host(self._begins, commit))
        return functools.partial(ask_host, self._records.commit, commit)


def ask_host(ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Send one request to the host.

    Raises:
        AuthenticityError: its answer has another shape.
        UnavailableError: it does not answer.
    """
    try:
        return ask(*args, **kwargs)
    except FormatError as error:
        raise AuthenticityError(f"store: host: {error.message}", code="store_host") from None
    except (EnclaveError, OSError) as error:
        raise UnavailableError(
            f"store: host: {error}", hint="the host's log has the reason", code="store_unavailable"
        ) from None
