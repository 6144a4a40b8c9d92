"""The sealed store of a ledger's service: its key, its secrets, and the last view that was taken.

Each process durably takes a new view before it writes anything: a nonce is a view and a seqno, so no two
processes use the same one, however they ended.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kluis.enclave.store.model import Storage, Writing
from kluis.errors import UnavailableError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.status import FIRST_VIEW
from kluis.services.ledger.identity import ServiceIdentity

TABLE: Final = "ledger"
SERVICE: Final = "service"
VIEW: Final = "view"


class Kept(msgspec.Struct, frozen=True):
    """A service, as it is kept.

    Attributes:
        key: PKCS#8 DER.
        certificate: PEM.
        secrets: version and key of each ledger secret.
        genesis: SHA-256 of what the genesis writes, but for its node, 32 bytes.
    """

    key: bytes
    certificate: str
    secrets: tuple[tuple[int, bytes], ...]
    genesis: bytes

    def __repr__(self) -> str:
        return f"Kept(genesis={self.genesis.hex()})"

    def service(self) -> ServiceIdentity:
        """Its key and certificate."""
        return ServiceIdentity.load(self.key, self.certificate)

    def ledger_secrets(self) -> Secrets:
        """Its secrets."""
        return Secrets([LedgerSecret(key, version) for version, key in self.secrets])


def find(storage: Storage) -> Kept | None:
    """The service that is kept, if there is one.

    Raises:
        UnavailableError: what is kept is not of this version.
    """
    record = storage.get(TABLE, SERVICE)
    if record is None:
        return None
    try:
        return msgspec.msgpack.decode(record, type=Kept)
    except UNREADABLE:
        raise UnavailableError(
            "ledger: its store is of another version of Kluis",
            hint="start it with the version of Kluis that wrote it",
        ) from None


def keep(storage: Storage, kept: Kept, view: int) -> None:
    """Keep a service, in place of what was kept.

    Args:
        storage: sealed.
        kept: the service.
        view: the last that this process took; 0 if it took none.

    Raises:
        UnavailableError: another process took a view since: the log is its, and it has read what was kept.
    """
    encoded = msgspec.msgpack.encode(kept)

    def work(writing: Writing) -> None:
        if (last := _last_view(writing)) != view:
            raise UnavailableError(
                f"ledger: want view {view} to be the last, got {last}: another node took it",
                hint="see that nothing else serves this ledger, and start this node again",
                code="ledger_fenced",
            )
        writing.put(TABLE, SERVICE, encoded)

    storage.update(work)


def take_view(storage: Storage, last: int) -> int:
    """Take a view that no process had: later than any that was taken, and than ``last``, the log's."""

    def work(writing: Writing) -> int:
        view = max(_last_view(writing), last, FIRST_VIEW - 1) + 1
        writing.put(TABLE, VIEW, str(view).encode())
        return view

    return storage.update(work)


def _last_view(writing: Writing) -> int:
    return int(writing.get(TABLE, VIEW) or b"0")
