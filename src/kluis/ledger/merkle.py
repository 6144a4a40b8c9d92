"""The ledger's Merkle tree: leaves in order, a root and a proof for each size that it ever had.

Two neighbours are hashed together; one without a neighbour goes up unchanged. Every full subtree is kept,
64 bytes a leaf in all, so that a proof costs as many steps as the tree is high.

Spec: CCF, "Merkle Tree"; merklecpp.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, Self

from kluis.errors import UsageError
from kluis.formats.ccf.receipt import Step
from kluis.formats.ccf.tree import TreeTable
from kluis.hashes import sha256

FIRST_LEAF: Final = bytes(32)
"""Of seqno 0, which no entry has."""


def fold(leaf: bytes, proof: Iterable[Step]) -> bytes:
    """The root, 32 bytes, that a leaf and its proof give."""
    node = leaf
    for left, sibling in proof:
        node = sha256(sibling + node if left else node + sibling)
    return node


class Tree:
    """A tree that grows; its first leaf is 32 zero bytes, so that an entry's leaf has its seqno as index."""

    __slots__ = ("_levels", "_unknown")

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray(FIRST_LEAF)]
        self._unknown = 0

    @classmethod
    def resume(cls, table: TreeTable) -> Self:
        """A tree that goes on from a tree table; proofs of flushed leaves cannot be made with it."""
        tree = cls()
        tree._unknown = table.flushed
        levels = [
            bytearray(32 * (table.flushed >> level)) for level in range(table.flushed.bit_length() or 1)
        ]
        end, roots = table.flushed, iter(table.roots)
        for level in range(table.flushed.bit_length()):
            if table.flushed >> level & 1:
                index = (end >> level) - 1
                levels[level][32 * index : 32 * index + 32] = next(roots)
                end -= 1 << level
        tree._levels = levels
        tree.extend(table.leaves)
        return tree

    @property
    def size(self) -> int:
        """How many leaves it has."""
        return len(self._levels[0]) >> 5

    def append(self, leaf: bytes) -> None:
        """Add one leaf of 32 bytes."""
        self.extend((leaf,))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaves, 32 bytes each.

        Raises:
            UsageError: one has another size.
        """
        if any(len(leaf) != 32 for leaf in leaves):
            raise UsageError("tree: want leaves of 32 bytes, got another")
        levels, hashed = self._levels, hashlib.sha256
        levels[0] += b"".join(leaves)
        level = 0
        while (whole := len(levels[level]) >> 6) > 0:
            if level + 1 == len(levels):
                levels.append(bytearray())
            below, above = (
                bytes(memoryview(levels[level])[len(levels[level + 1]) << 1 : whole << 6]),
                levels[level + 1],
            )
            if not below:
                break
            above += b"".join([hashed(below[at : at + 64]).digest() for at in range(0, len(below), 64)])
            level += 1

    def leaf(self, index: int) -> bytes:
        """A leaf, by its seqno.

        Raises:
            UsageError: the tree does not have it.
        """
        if not self._unknown <= index < self.size:
            raise UsageError(f"tree: want a leaf from {self._unknown} to {self.size - 1}, got {index}")
        return bytes(self._levels[0][32 * index : 32 * index + 32])

    def root(self, size: int | None = None) -> bytes:
        """The root, 32 bytes, of the first leaves.

        Args:
            size: how many; None for all.

        Raises:
            UsageError: the tree never had that size.
        """
        size = self._check_size(size)
        node, at = b"", size
        for level in range(size.bit_length()):
            if size >> level & 1:
                peak = self._node(level, (at >> level) - 1)
                node = sha256(peak + node) if node else peak
                at -= 1 << level
        return node

    def proof(self, index: int, size: int | None = None) -> tuple[Step, ...]:
        """How a leaf leads to a root.

        Args:
            index: of the leaf: its seqno.
            size: of the tree whose root it is; None for all leaves.

        Raises:
            UsageError: no such leaf or size.
        """
        size = self._check_size(size)
        if not self._unknown <= index < size:
            raise UsageError(f"proof: want a leaf from {self._unknown} to {size - 1}, got {index}")
        steps: list[Step] = []
        level = 0
        while 1 << level < size:
            at = index >> level
            if at & 1:
                steps.append(Step(True, self._node(level, at - 1)))
            elif (at + 2) << level <= size:
                steps.append(Step(False, self._node(level, at + 1)))
            elif (at + 1) << level < size:
                steps.append(Step(False, self._tail((at + 1) << level, size)))
            level += 1
        return tuple(steps)

    def table(self, flushed: int) -> TreeTable:
        """What a signature's entry holds of the tree.

        Args:
            flushed: how many leaves go in as roots of subtrees: those before the last signature.

        Raises:
            UsageError: more than there are.
        """
        if not 0 <= flushed <= self.size:
            raise UsageError(f"tree table: want 0 to {self.size} flushed leaves, got {flushed}")
        raw = bytes(self._levels[0][32 * flushed :])
        roots, end = [], flushed
        for level in range(flushed.bit_length()):
            if flushed >> level & 1:
                roots.append(self._node(level, (end >> level) - 1))
                end -= 1 << level
        leaves = tuple([raw[at : at + 32] for at in range(0, len(raw), 32)])
        return TreeTable(flushed, leaves, tuple(roots))

    def _check_size(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not max(1, self._unknown) <= size <= self.size:
            raise UsageError(f"tree: want 1 to {self.size} leaves, got {size}")
        return size

    def _node(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][32 * index : 32 * index + 32])

    def _tail(self, start: int, size: int) -> bytes:
        """The root of the leaves from ``start``, which begins a subtree, to an end within it."""
        node, at = b"", size
        for level in range(size.bit_length()):
            if at == start:
                break
            if size >> level & 1:
                peak = self._node(level, (at >> level) - 1)
                node = sha256(peak + node) if node else peak
                at -= 1 << level
        return node
