"""Where entries are: by collection, by tag, and by the request that wrote them. Rebuilt at each start."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable, Iterator

from kluis.errors import AuthenticityError
from kluis.formats.ccf.domain import Writes
from kluis.services.ledger.tables import ENTRIES, PUBLIC_ENTRIES, REQUESTS, Stored


class Index:
    """Seqnos of entries, each list rising.

    Attributes:
        requests: the seqno of each request that is remembered.
    """

    def __init__(self) -> None:
        self._collections: dict[str, array[int]] = {}
        self._tags: dict[tuple[str, str], array[int]] = {}
        self.requests: dict[bytes, int] = {}

    def note(self, seqno: int, writes: Writes) -> None:
        """Note what an entry wrote."""
        for table, changes in writes.items():
            if table in (ENTRIES, PUBLIC_ENTRIES):
                for key, value in changes.items():
                    if value is not None:
                        self._note_entry(key.decode(), value, seqno)
            elif table == REQUESTS:
                for key, value in changes.items():
                    if value is None:
                        self.requests.pop(key, None)
                    else:
                        self.requests[key] = seqno

    def _note_entry(self, collection: str, value: bytes, seqno: int) -> None:
        seqnos = self._collections.get(collection)
        if seqnos is None:
            seqnos = self._collections[collection] = array("Q")
        seqnos.append(seqno)
        if b'"tags"' not in value:
            return
        try:
            tags = Stored.read(value).tags
        except AuthenticityError:
            return
        for tag in tags:
            self._tags.setdefault((collection, tag), array("Q")).append(seqno)

    def collections(self) -> list[str]:
        """The ids of all collections, sorted."""
        return sorted(self._collections)

    def count_collections(self) -> int:
        """How many collections there are."""
        return len(self._collections)

    def tags(self, collection: str) -> list[str]:
        """The tags of a collection's entries, sorted."""
        return sorted(tag for where, tag in self._tags if where == collection)

    def new_tags(self, collection: str, tags: Iterable[str]) -> int:
        """How many of these tags no entry of the collection has yet."""
        return sum((collection, tag) not in self._tags for tag in tags)

    def count_tags(self) -> int:
        """How many tags there are in all collections."""
        return len(self._tags)

    def has(self, collection: str) -> bool:
        """Whether a collection has an entry."""
        return collection in self._collections

    def find(self, collection: str, tag: str | None, first: int, last: int) -> Iterator[int]:
        """The seqnos of a collection's entries from ``first`` to ``last``, rising."""
        seqnos = self._collections.get(collection) if tag is None else self._tags.get((collection, tag))
        if seqnos is not None:
            for at in range(bisect.bisect_left(seqnos, first), bisect.bisect_right(seqnos, last)):
                yield seqnos[at]
