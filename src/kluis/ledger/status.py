"""The status of an entry: views, and what a node may report about a transaction id.

Spec: CCF, "Transaction Status"; ``src/node/rpc/common_endpoint_registry.h``.
"""

from __future__ import annotations

import bisect
import enum
from collections.abc import Sequence
from typing import Final

from kluis.errors import UsageError
from kluis.formats.ccf.txid import TxId

FIRST_VIEW: Final = 2


class Status(enum.Enum):
    """The known status of a transaction id. ``COMMITTED`` and ``INVALID`` never change."""

    UNKNOWN = "Unknown"
    PENDING = "Pending"
    COMMITTED = "Committed"
    INVALID = "Invalid"


class Views:
    """Which view each entry belongs to.

    Args:
        starts: pairs of a view and the seqno of its first entry, both rising.

    Raises:
        UsageError: they do not rise.
    """

    __slots__ = ("_seqnos", "_views")

    def __init__(self, starts: Sequence[TxId] = ()) -> None:
        self._views: list[int] = []
        self._seqnos: list[int] = []
        for start in starts:
            self.begin(start)

    @property
    def starts(self) -> tuple[TxId, ...]:
        """The first entry of each view."""
        return tuple(map(TxId, self._views, self._seqnos))

    def begin(self, first: TxId) -> None:
        """Record a view's first entry.

        Raises:
            UsageError: the view is not later than the one before it, or the seqno is not.
        """
        if self._views and (first.view <= self._views[-1] or first.seqno <= self._seqnos[-1]):
            raise UsageError(f"view: want one after {self._views[-1]}.{self._seqnos[-1]}, got {first}")
        self._views.append(first.view)
        self._seqnos.append(first.seqno)

    def of(self, seqno: int) -> int:
        """The view of an entry; 0 if it is before the first."""
        index = bisect.bisect_right(self._seqnos, seqno)
        return self._views[index - 1] if index else 0


def status_of(txid: TxId, local_view: int, committed: TxId) -> Status:
    """What a node may say about a transaction.

    Args:
        txid: that is queried.
        local_view: the view of the node's own entry of that seqno; 0 if it has none.
        committed: the node's last committed entry.
    """
    if committed.seqno >= txid.seqno:
        return Status.COMMITTED if local_view == txid.view else Status.INVALID
    if local_view == txid.view:
        return Status.PENDING
    return Status.INVALID if committed.view > txid.view else Status.UNKNOWN
