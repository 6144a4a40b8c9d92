"""The witness of a store: a counter of the platform, which remembers the last commit it was told of.

The host keeps every record, and so can set all of them back at once: the head is then as genuine as it was.
A platform counter remembers, for each store, the epoch of its last commit and the chain that stood there, so
a set-back store is seen, and so is one whose history forked. It is one platform's, and a platform keeps
it in a file: see :attr:`Witness.label`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["UNDETECTED", "Witness", "Witnessed"]

UNDETECTED = "undetected"


class Witnessed(NamedTuple):
    """The last commit that a witness was told of: its epoch, and the chain after it (empty at epoch 0)."""

    epoch: int
    chain: bytes


class Witness(Protocol):
    """Remembers, beyond the host's reach.

    Attributes:
        label: who would notice if the host set the store back.
    """

    label: str

    def read(self) -> Witnessed:
        """The last commit that it was told of."""
        ...

    def advance(self, to: Witnessed) -> Witnessed:
        """Tell it of a commit, durably; it never goes back.

        Returns:
            What it remembers then: ``to``, a later one, or another that it was told of with this epoch.
        """
        ...
