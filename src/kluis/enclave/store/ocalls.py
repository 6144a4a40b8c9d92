"""A store's requests as ocalls: eight of them, declared on an application with one call.

app = Enclave("ledger")
records = ocalls.declare(app)            # inside: what a SealedStore is made with

load(image, ocalls=ocalls.serving(records))     # outside: the host's own Records, as of a database
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Protocol

from kluis.enclave.app import Enclave
from kluis.enclave.store.records import (
    Id,
    Ids,
    Known,
    Puts,
    Records,
    Rekeys,
    SealedKey,
    StoreAnswer,
    StoreCommit,
    StoreKeys,
    StorePut,
    StoreRekey,
    StoreSurvey,
    Version,
)
from kluis.errors import UnavailableError

READ_SECONDS: Final = 30.0
COMMIT_SECONDS: Final = 60.0
REKEY_SECONDS: Final = 1800.0


class KeptKeys(Protocol):
    """The host's storage of a storage key: sealed copies, by the platform where they open."""

    def keys(self, platform: bytes) -> StoreKeys:
        """The copy for ``platform`` (32 bytes), and whether there is one for any."""
        ...

    def keep_key(self, platform: bytes, sealed: bytes, first: bool) -> bool:
        """Store a copy, on disk by the return, unless there is one for ``platform``.

        Args:
            platform: 32 bytes.
            sealed: at most 1024 bytes.
            first: only if there is none at all.

        Returns:
            Whether it was stored.
        """
        ...


class HostSide(Records, KeptKeys, Rekeys, Protocol):
    """All requests of a store to its host."""


class OcallRecords:
    """The host's records, through ocalls of an application."""

    def __init__(self, app: Enclave) -> None:
        self.read: Callable[[list[bytes], int], StoreAnswer] = _declare(app, store_read, READ_SECONDS)
        self.survey: Callable[[bytes], StoreSurvey] = _declare(app, store_survey, READ_SECONDS)
        self.commit: Callable[[StoreCommit], bool] = _declare(app, store_commit, COMMIT_SECONDS)
        self.begin_commit: Callable[[StoreCommit], Callable[[], bool]] = functools.partial(
            app.begin, self.commit
        )
        self.keys: Callable[[bytes], StoreKeys] = _declare(app, store_keys, READ_SECONDS)
        self.keep_key: Callable[[bytes, bytes, bool], bool] = _declare(app, store_keep_key, COMMIT_SECONDS)
        self.rekey_begin: Callable[[], None] = _declare(app, store_rekey_begin, REKEY_SECONDS)
        self.rekey_put: Callable[[bytes, list[StorePut]], None] = _declare(
            app, store_rekey_put, COMMIT_SECONDS
        )
        self.rekey_finish: Callable[[StoreRekey], bool] = _declare(app, store_rekey_finish, REKEY_SECONDS)


def declare(app: Enclave) -> OcallRecords:
    """Declare a store's ocalls on an application, and return its records inside."""
    return OcallRecords(app)


def serving(records: HostSide) -> Mapping[str, Callable[..., Any]]:
    """The host's functions for ``load(ocalls=...)``, which store into ``records``."""
    return {
        "store_read": records.read,
        "store_survey": records.survey,
        "store_commit": records.commit,
        "store_keys": records.keys,
        "store_keep_key": records.keep_key,
        "store_rekey_begin": records.rekey_begin,
        "store_rekey_put": records.rekey_put,
        "store_rekey_finish": records.rekey_finish,
    }


def _declare(app: Enclave, function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    declare_it: Callable[..., Callable[..., Any]] = app.ocall(timeout_seconds=seconds)
    return declare_it(function)


def store_read(ids: Ids, known: Known) -> StoreAnswer:
    """Read records, and the commits since."""
    _not_served()


def store_survey(after: bytes) -> StoreSurvey:
    """List records, page by page."""
    _not_served()


def store_commit(commit: StoreCommit) -> bool:
    """Store a commit, if no other came first."""
    _not_served()


def store_keys(platform: Id) -> StoreKeys:
    """Find the sealed copy of the storage key."""
    _not_served()


def store_keep_key(platform: Id, sealed: SealedKey, first: bool) -> bool:
    """Store a sealed copy of the storage key."""
    _not_served()


def store_rekey_begin() -> None:
    """Begin to collect records under another key."""
    _not_served()


def store_rekey_put(version: Version, puts: Puts) -> None:
    """Collect records."""
    _not_served()


def store_rekey_finish(last: StoreRekey) -> bool:
    """Replace the store with the collected records."""
    _not_served()


def _not_served() -> NoReturn:
    raise UnavailableError(
        "store: this host keeps none",
        hint="load(image, ocalls=ocalls.serving(records))",
        code="store_unavailable",
    )
