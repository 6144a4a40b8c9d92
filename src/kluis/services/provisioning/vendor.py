"""The makers' own documents, as somebody put them here: checked before they are kept, and when given.

They come in an upload, or from beside the enclave, where the host has a folder of them. Either way only what
its maker signed goes out, byte for byte, while it is in its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kluis.collateral.checks import check
from kluis.collateral.documents import Document, Key, Kind, check_key, times
from kluis.collateral.paths import Asked, asked, document
from kluis.collateral.paths import Vendor as Beside
from kluis.enclave.store.model import Storage
from kluis.errors import FreshnessError, UnavailableError
from kluis.evidence import TrustAnchors
from kluis.evidence.context import Context
from kluis.services.provisioning import records
from kluis.services.provisioning.records import decode, encode

__all__ = ["Vendor"]

TABLE: Final = "vendor"
_FETCH: Final = "kluis collateral fetch EVIDENCE"


class Vendor:
    """Gives and keeps the makers' documents.

    Args:
        storage: the service's.
        anchors: the makers' roots.
        beside: asked for what is not kept here: a path of the maker's service and its query; not trusted.
    """

    def __init__(self, storage: Storage, anchors: TrustAnchors, beside: Beside | None = None) -> None:
        self._storage = storage
        self._context = Context(anchors, lasting=True)
        self._beside = beside

    def get(self, path: str, query: Mapping[str, str], now: datetime) -> tuple[Asked, Document]:
        """Give the document that a path of a maker's service asks for.

        Raises:
            UsageError: a parameter of the path is not what it should be.
            UnavailableError: it is not here (``collateral_missing``); says which command brings it.
            FormatError, AuthenticityError: what is here is not what its maker signed.
            FreshnessError: it is out of its time.
        """
        wanted = asked(path, query)
        if wanted is None:
            raise UnavailableError(
                f"{path[:200]}: want a document that the makers publish, got another path",
                code="collateral_missing",
            )
        found = self._find(wanted, path, query)
        check(*wanted, found, self._ask, self._context, now)
        return wanted, found

    def keep(self, kind: Kind, key: Key, found: Document, now: datetime) -> None:
        """Keep a document, once it is checked.

        Raises:
            FormatError, AuthenticityError: it is not what its maker signed.
            FreshnessError: it is out of its time, or older than what is kept.
            UsageError: a word of the key is not a word.
        """
        check_key(kind, key)
        check(kind, key, found, self._ask, self._context, now)
        name = _name(kind, key)
        data = self._storage.get(TABLE, name)
        if data is not None:
            old, new = times(kind, _document(data)), times(kind, found)
            if new.issued < old.issued or (new.evaluation or 0) < (old.evaluation or 0):
                raise FreshnessError(
                    f"{name}: want one issued {old.issued.isoformat()} or later, as is kept, "
                    f"got one issued {new.issued.isoformat()}",
                    code="collateral_replayed",
                )
        kept = encode(records.Vendor(body=found.body, chain=found.chain))
        self._storage.update(lambda store: store.put(TABLE, name, kept))

    def _find(self, wanted: Asked, path: str, query: Mapping[str, str]) -> Document:
        data = self._storage.get(TABLE, _name(*wanted))
        if data is not None:
            return _document(data)
        given = self._beside(path, query) if self._beside is not None else None
        if given is None:
            raise _missing(*wanted)
        return document(wanted, *given)

    def _ask(self, kind: Kind, key: Key) -> Document:
        """What another document is checked with: kept here, or beside; checked by who asks."""
        data = self._storage.get(TABLE, _name(kind, key))
        if data is not None:
            return _document(data)
        path, query = _path(kind, key)
        return self._find(Asked(kind, key), path, query)


def _name(kind: Kind, key: Key) -> str:
    return " ".join((kind, *key))


def _path(kind: Kind, key: Key) -> tuple[str, dict[str, str]]:
    """Where the two documents are that others are checked with."""
    if kind is Kind.AMD_CHAIN:
        return f"/{key[1]}/v1/{key[0]}/cert_chain", {}
    return "/sgx/certification/v4/pckcrl", {"ca": key[0]}


def _missing(kind: Kind, key: Key) -> UnavailableError:
    numbered = kind in {Kind.TCB_INFO, Kind.QE_IDENTITY} and key[-1].isdigit()
    how = f" --evaluation {key[-1]}" if numbered else ""
    if kind in {Kind.TCB_INFO, Kind.QE_IDENTITY} and key[-1] in {"standard", "early"}:
        how = f" --update {key[-1]}"
    return UnavailableError(
        f"{_name(kind, key)}: is not kept here",
        hint=f"{_FETCH}{how} on the service's host gets it from its maker",
        code="collateral_missing",
    )


def _document(data: bytes) -> Document:
    record = decode(data, records.Vendor)
    return Document(body=record.body, chain=record.chain)
