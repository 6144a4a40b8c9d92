"""The tree: against the plain definition, at every size."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import UsageError
from kluis.formats.ccf.receipt import Step
from kluis.formats.ccf.tree import TreeTable
from kluis.ledger import merkle
from kluis.ledger.merkle import Tree
from tests.strategies import PROPERTY


def plain_root(leaves: list[bytes]) -> bytes:
    """The definition: pairs are hashed, the odd one goes up."""
    while len(leaves) > 1:
        leaves = [
            hashlib.sha256(leaves[i] + leaves[i + 1]).digest() if i + 1 < len(leaves) else leaves[i]
            for i in range(0, len(leaves), 2)
        ]
    return leaves[0]


LEAVES = [bytes(32), *(hashlib.sha256(b"%d" % index).digest() for index in range(1, 140))]


def tree_of(size: int) -> Tree:
    """A tree of the first leaves."""
    tree = Tree()
    tree.extend(LEAVES[1:size])
    return tree


def test_every_size() -> None:
    """Root, proofs and tables of every size are those of the definition, also when the tree has grown on."""
    grown = tree_of(len(LEAVES))
    for size in range(1, len(LEAVES) + 1):
        tree, root = tree_of(size), plain_root(LEAVES[:size])
        assert tree.root() == grown.root(size) == root
        for index in range(size):
            proof = tree.proof(index)
            assert proof == grown.proof(index, size)
            assert merkle.fold(LEAVES[index], proof) == root
        for flushed in range(0, size, 5):
            table = tree.table(flushed)
            again = Tree.resume(TreeTable.parse(table.encode(), "tree"))
            assert (again.size, again.root()) == (size, root)
            again.extend(LEAVES[size:])
            assert again.root() == grown.root()
            assert again.proof(size - 1) == grown.proof(size - 1)


@given(st.lists(st.integers(1, 40), max_size=8))
@PROPERTY
def test_grown_in_steps(steps: list[int]) -> None:
    """How leaves came in makes no difference."""
    tree, at = Tree(), 1
    for step in steps:
        tree.extend(LEAVES[at : at + step])
        at = min(at + step, len(LEAVES))
    assert tree.root() == plain_root(LEAVES[:at])


def test_nothing_promoted_is_in_a_proof() -> None:
    """The last of three leaves has one neighbour only."""
    tree = tree_of(3)
    assert tree.proof(2) == (Step(True, hashlib.sha256(LEAVES[0] + LEAVES[1]).digest()),)
    assert tree.leaf(2) == LEAVES[2]


def test_limits() -> None:
    """Leaves and sizes that a tree does not have are the caller's mistake."""
    tree = tree_of(10)
    flushed = Tree.resume(tree.table(6))
    for work in (
        lambda: tree.leaf(10), lambda: tree.leaf(-1), lambda: tree.root(0), lambda: tree.root(11),
        lambda: tree.proof(10), lambda: tree.proof(3, 3), lambda: tree.table(11),
        lambda: tree.append(b""), lambda: flushed.proof(5), lambda: flushed.leaf(5), lambda: flushed.root(5),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            work()
