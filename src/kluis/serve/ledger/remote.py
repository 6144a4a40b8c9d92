"""Entries of a collection as a running node commits them, for a client that may read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

from kluis.errors import FormatError
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.serve.ledger.governing import Governor

VERSION: Final = "2026-02-23"
MOST_PAGE: Final = 1000
MOST_VIEWS: Final = 100_000


class Entry(NamedTuple):
    """One committed entry.

    Attributes:
        txid: its id.
        contents: as its user wrote it.
    """

    txid: TxId
    contents: str


class RemoteFollower:
    """A place in a collection of a ledger that runs.

    Args:
        node: of the ledger; the client's certificate has a role that may read.
        collection: its id; None: the default one.
        last: how many entries before its end are wanted first, at least, if there are as many.

    Attributes:
        next: seqno of the next entry.

    Raises:
        UnavailableError: the node does not answer.
        PolicyError: it refuses, with its words.
        FormatError: its answer is something else.
    """

    def __init__(self, node: Governor, collection: str | None, last: int) -> None:
        self._node = node
        self._collection = "" if collection is None else f"&collectionId={quote(collection, safe='')}"
        committed, _ = self._commit()
        self.next = committed.seqno + 1
        span = 4 * last
        while last and self.next > 1:  # pages go forwards only
            self.next = max(1, committed.seqno + 1 - span)
            if sum(1 for _ in self._from(self.next)) >= last:
                break
            span *= 8

    def rows(self) -> Iterator[Entry]:
        """The entries that were committed since the last call. Raises as the class does."""
        for entry in self._from(self.next):
            self.next = entry.txid.seqno + 1
            yield entry

    def _from(self, seqno: int) -> Iterator[Entry]:
        more = True
        while more:
            committed, starts = self._commit()
            if seqno > committed.seqno:
                return
            view = max((one.view for one in starts if one.seqno <= seqno), default=0)
            since = f"fromTransactionId={TxId(view, seqno)}"
            path = f"/app/transactions?api-version={VERSION}{self._collection}&{since}"
            page = Members(self._node.get(path), "entries")
            entries = [_entry(value) for value in page.array("entries", most=MOST_PAGE)]
            for entry in entries:
                if entry.txid.seqno < seqno:
                    raise FormatError(f"entries: want ids that rise from {seqno} on, got {entry.txid}")
                seqno = entry.txid.seqno + 1
                yield entry
            more = "nextLink" in page and bool(entries)

    def _commit(self) -> tuple[TxId, list[TxId]]:
        """The last committed entry, and the first one of each view."""
        value = Members(self._node.get("/app/commit?view_history=true"), "commit")
        starts = [
            TxId.parse(str(one), "view_history") for one in value.array("view_history", most=MOST_VIEWS)
        ]
        return TxId.parse(value.text("transaction_id"), "transaction_id"), starts


def _entry(value: jcs.Json) -> Entry:
    members = Members(value, "entry")
    return Entry(TxId.parse(members.text("transactionId"), "transactionId"), members.text("contents"))
