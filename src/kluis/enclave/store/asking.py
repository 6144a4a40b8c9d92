"""Asking the host: whatever goes wrong on its side is told as one of two errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from kluis.enclave.store.records import Records, StoreAnswer, StoreCommit, StoreSurvey
from kluis.errors import AuthenticityError, EnclaveError, FormatError, UnavailableError

__all__ = ["Host", "asked"]

P = ParamSpec("P")
R = TypeVar("R")


class Host:
    """The host's side of a store; every method raises UnavailableError or AuthenticityError."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def read(self, ids: list[bytes], known: int) -> StoreAnswer:
        """As :meth:`Records.read`."""
        return asked(self._records.read, ids, known)

    def survey(self, after: bytes) -> StoreSurvey:
        """As :meth:`Records.survey`."""
        return asked(self._records.survey, after)

    def commit(self, commit: StoreCommit) -> bool:
        """As :meth:`Records.commit`."""
        return asked(self._records.commit, commit)


def asked(ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Ask the host one thing.

    Raises:
        AuthenticityError: its answer is of another shape.
        UnavailableError: it gives none.
    """
    try:
        return ask(*args, **kwargs)
    except FormatError as error:
        raise AuthenticityError(f"store: host: {error.message}", code="store_host") from None
    except (EnclaveError, OSError) as error:
        raise UnavailableError(
            f"store: host: {error}", hint="the host's own log says why", code="store_unavailable"
        ) from None
