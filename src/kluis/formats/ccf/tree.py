"""The tree table: enough of a ledger's Merkle tree to go on from one signature, without what came before.

    u64 leaves held, u64 leaves flushed, the leaves held, a root for each full subtree of the flushed

Integers are big-endian here; the flushed leaves' subtrees follow their number's bits, the lowest first.

Spec: merklecpp, ``TreeT::serialise``.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

MAX_LEAVES: Final = 1 << 24


@frozen
class TreeTable:
    """A tree whose first leaves are known by their subtrees' roots only.

    Attributes:
        flushed: how many leaves came before those held.
        leaves: those held, 32 bytes each.
        roots: of the flushed leaves' full subtrees, 32 bytes each, the smallest first.
    """

    flushed: int
    leaves: tuple[bytes, ...]
    roots: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read the table's value.

        Raises:
            FormatError: anything else, or more than 2^24 leaves held.
        """
        reader = Reader(data, what, byte_order="big")
        present, flushed = reader.u64("leaves held"), reader.u64("leaves flushed")
        if present > MAX_LEAVES:
            raise FormatError(f"{what}: want at most {MAX_LEAVES} leaves, got {present}", code="too_large")
        leaves = reader.take(32 * present, "leaves")
        roots = reader.take(32 * flushed.bit_count(), "roots")
        reader.end()
        return cls(flushed, _split(leaves), _split(roots))

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self.flushed + len(self.leaves)

    def encode(self) -> bytes:
        """Write the table's value: the bytes it was read from."""
        head = len(self.leaves).to_bytes(8, "big") + self.flushed.to_bytes(8, "big")
        return b"".join((head, *self.leaves, *self.roots))


def _split(data: bytes) -> tuple[bytes, ...]:
    return tuple([data[at : at + 32] for at in range(0, len(data), 32)])
