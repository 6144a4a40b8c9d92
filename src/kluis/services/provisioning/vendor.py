"""Vendors' own documents, uploaded or from the host: checked before they are stored, and when they are
served.

They come in an upload, or from the host's folder of documents outside the enclave. In both cases only
authentic and current documents are served, byte for byte. A stored document is never dropped, and nothing
issued earlier, or with a lower evaluation number, replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kluis.collateral.checks import check
from kluis.collateral.documents import Document, Key, Kind, check_named, times
from kluis.collateral.marks import format_times, is_older
from kluis.collateral.paths import Asked, document, find_document
from kluis.collateral.paths import Vendor as FromHost
from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.errors import FormatError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import TrustAnchors
from kluis.evidence.context import Context
from kluis.services.provisioning import records
from kluis.services.provisioning.records import decode, encode

TABLE: Final = "vendor"
_FETCH: Final = "kluis collateral fetch EVIDENCE"


class Vendor:
    """Serves and stores the vendors' documents.

    Args:
        storage: the service's.
        anchors: the vendors' roots.
        from_host: returns documents that are not stored here, by a path of the vendor's service and its
            query; not trusted.
    """

    def __init__(self, storage: Storage, anchors: TrustAnchors, from_host: FromHost | None = None) -> None:
        self._storage = storage
        self._context = Context(anchors, lasting=True)
        self._from_host = from_host

    def get(self, path: str, query: Mapping[str, str], now: datetime) -> tuple[Asked, Document]:
        """Return the document that a path of a vendor's service names.

        Raises:
            UsageError: an invalid parameter of the path.
            UnavailableError: it is not available (``collateral_missing``); names the command that fetches it.
            FormatError, AuthenticityError: the document is not authentic.
            FreshnessError: it is expired or not yet valid.
        """
        wanted = find_document(path, query)
        if wanted is None:
            raise UnavailableError(
                f"{path[:200]}: want a document that the vendors publish, got another path",
                code="collateral_missing",
            )
        failed: KluisError | None = None
        for reply, new in self._find(wanted, path, query):
            try:
                check(*wanted, reply, self._ask, self._context, now)
            except KluisError as error:
                failed = failed or error
                continue
            if new and not self._put(*wanted, reply):  # somebody brought a newer one meanwhile
                return self.get(path, query, now)
            return wanted, reply
        raise failed or _missing(*wanted)

    def keep(self, kind: Kind, key: Key, reply: Document, now: datetime) -> None:
        """Store a document, once it is checked.

        Raises:
            FormatError, AuthenticityError: it is not authentic.
            FreshnessError: it is expired, not yet valid, or older than the stored one.
            UsageError: a word of the key is not a word.
        """
        check_named(kind, key)
        check(kind, key, reply, self._ask, self._context, now)
        if not self._put(kind, key, reply):
            stored = self._read_stored(_name(kind, key)) or reply
            raise FreshnessError(
                f"{_name(kind, key)}: want one issued {format_times(times(kind, stored))} or later, as is "
                f"kept, got one issued {format_times(times(kind, reply))}",
                hint=(
                    f"{_fetch(kind, key)} fetches a newer one from the vendor; stored documents are never"
                    " replaced by older ones"
                ),
                code="collateral_replayed",
            )

    def _find(self, wanted: Asked, path: str, query: Mapping[str, str]) -> list[tuple[Document, bool]]:
        """The stored document, and the host's one if it claims to be newer; each with whether it is new.

        Raises:
            FormatError: there is only the host's one, and it is malformed.
        """
        stored = self._read_stored(_name(*wanted))
        fetched = self._from_host(path, query) if self._from_host is not None else None
        if fetched is None:
            return [] if stored is None else [(stored, False)]
        if stored is None:
            return [(document(wanted, *fetched), True)]
        try:
            other = document(wanted, *fetched)
            was, now = times(wanted.kind, stored), times(wanted.kind, other)
            if now.issued > was.issued and not is_older(now, was):  # a lower number is no newer one
                return [(other, True), (stored, False)]
        except FormatError:  # no such document, and so no newer one
            return [(stored, False)]
        return [(stored, False)]

    def _ask(self, kind: Kind, key: Key) -> Document:
        """A document that checks another one: stored, or from the host; the caller checks it."""
        stored = self._read_stored(_name(kind, key))
        if stored is not None:
            return stored
        path, query = _path(kind, key)
        for reply, _ in self._find(Asked(kind, key), path, query):
            return reply
        raise _missing(kind, key)

    def _read_stored(self, name: str) -> Document | None:
        return _read(self._storage, name)

    def _put(self, kind: Kind, key: Key, reply: Document) -> bool:
        """Store a document, unless a newer one is stored; return whether it was."""
        name, record = _name(kind, key), encode(records.Vendor(body=reply.body, chain=reply.chain))

        def work(store: Writing) -> bool:
            stored = _read(store, name)
            if stored is not None and is_older(times(kind, reply), times(kind, stored)):
                return False
            store.put(TABLE, name, record)
            return True

        return self._storage.update(work)


def _read(store: Reading, name: str) -> Document | None:
    data = store.get(TABLE, name)
    if data is None:
        return None
    record = decode(data, records.Vendor)
    return Document(body=record.body, chain=record.chain)


def _name(kind: Kind, key: Key) -> str:
    return " ".join((kind, *key))


def _path(kind: Kind, key: Key) -> tuple[str, dict[str, str]]:
    """The path of the two documents that check others."""
    if kind is Kind.AMD_CHAIN:
        return f"/{key[1]}/v1/{key[0]}/cert_chain", {}
    return "/sgx/certification/v4/pckcrl", {"ca": key[0]}


def _fetch(kind: Kind, key: Key) -> str:
    numbered = kind in {Kind.TCB_INFO, Kind.QE_IDENTITY} and key[-1].isdigit()
    how = f" --evaluation {key[-1]}" if numbered else ""
    if kind in {Kind.TCB_INFO, Kind.QE_IDENTITY} and key[-1] in {"standard", "early"}:
        how = f" --update {key[-1]}"
    return f"{_FETCH}{how}"


def _missing(kind: Kind, key: Key) -> UnavailableError:
    return UnavailableError(
        f"{_name(kind, key)}: is not kept here",
        hint=f"{_fetch(kind, key)} on the service's host fetches it from the vendor",
        code="collateral_missing",
    )
